"""`GET /runs` and `GET /runs/counts`, as the contract has them."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import httpx
import pytest

from http_api.gateway import gateway
from http_api.keyed import KEYED, as_key, key_for
from http_api.seeding import put_runs, snapshot

ITEM = {
    "run_id",
    "flow_name",
    "tag",
    "tags",
    "tenant_id",
    "api_key_id",
    "status",
    "updated_at",
    "heartbeat_at",
    "worker_id",
    "error",
}


async def ids(client: httpx.AsyncClient, query: str) -> list[str]:
    answer = await client.get(f"/runs?{query}")
    assert answer.status_code == 200, answer.text
    body = answer.json()
    return [item["run_id"] for item in (body if isinstance(body, list) else body["items"])]


async def test_an_empty_install_lists_nothing(tmp_path: Path) -> None:
    async with gateway(tmp_path, worker=False) as (client, _):
        answer = await client.get("/runs")
        assert (answer.status_code, answer.json()) == (200, [])
        assert (await client.get("/runs?cursor=")).json() == {"items": [], "next_cursor": None}
        counts = (await client.get("/runs/counts")).json()
        assert (counts["counts"], counts["total"], counts["exact"]) == ({}, 0, True)


# Where runs are of long ago, the gateway is not to forget them (runs_ttl_sec).
async def test_the_bare_list_is_newest_first_and_has_the_items_of_the_contract(
    tmp_path: Path,
) -> None:
    async with gateway(tmp_path, worker=False, runs_ttl_sec=0.0) as (client, backend):
        await put_runs(
            backend, [snapshot(f"r{n}", updated_at=1000.0 + n, error=f"e{n}") for n in range(60)]
        )
        items = (await client.get("/runs")).json()
        assert [item["run_id"] for item in items] == [f"r{n}" for n in range(59, 9, -1)]
        assert items[0].keys() >= ITEM
        assert (items[0]["error"], items[0]["updated_at"], items[0]["tags"]) == (
            "e59",
            1059.0,
            ["hello"],
        )
        assert len(await ids(client, "limit=200")) == 60
        assert await ids(client, "limit=2") == ["r59", "r58"]
        full = (await client.get("/runs?include=full&limit=3")).json()
        assert [one["run_id"] for one in full] == ["r59", "r58", "r57"]
        assert full[0]["task_records"]["a"]["output"] == 1


async def test_each_filter_narrows_and_new_ones_ask_for_the_paged_answer(tmp_path: Path) -> None:
    async with gateway(tmp_path, worker=False, runs_ttl_sec=0.0) as (client, backend):
        await put_runs(
            backend,
            [
                snapshot("a1", updated_at=1.0, submitted_at=1.0),
                snapshot("b2", updated_at=2.0, status="FAILED", error="It Broke_here"),
                snapshot("c3", updated_at=3.0, flow_name="other", submitted_at=3.0),
                snapshot("d4", updated_at=4.0, tag="gpu", worker_id="w9"),
                snapshot("e5", updated_at=5.0, workflow_yaml_sha256="ab" * 32),
                snapshot("f6", updated_at=6.0, status="RUNNING", end_time=None),
                snapshot("g7", updated_at=2.5, flow_name="daily\u3000report", tag="x"),
            ],
        )
        for query, expected in {
            "status=FAILED": ["b2"],
            "status=failed": ["b2"],
            "status=FAILED&status=RUNNING": ["f6", "b2"],
            "status=FAILED,RUNNING": ["f6", "b2"],
            "flow=other": ["c3"],
            "tag=gpu": ["d4"],
            "flow=main&tag=hello&status=COMPLETED": ["e5", "a1"],
            "worker_id=w9": ["d4"],
            "updated_after=4": ["f6", "e5"],
            "updated_before=2": ["a1"],
            "submitted_after=0.5&submitted_before=2": ["a1"],
            f"workflow_yaml_sha256={'ab' * 32}": ["e5"],
            "q=broke": ["b2"],
            "q=BROKE_H": ["b2"],
            "q=brokexhere": [],
            "q=d4": ["d4"],
            "q=oth": ["c3"],
            "flow=daily%E3%80%80report": ["g7"],
            "q=%E3%80%80re": ["g7"],
            "flow=none": [],
        }.items():
            assert await ids(client, query) == expected, query
        assert isinstance((await client.get("/runs?status=FAILED&flow=main&tag=x")).json(), list)
        for query in ("q=", "worker_id=", "late=false", "counts=0", "workflow_yaml_sha256="):
            assert isinstance((await client.get(f"/runs?{query}")).json(), list), query
        for query in ("updated_after=0", "cursor=", "q=x", "worker_id=w", "counts=1", "late=1"):
            assert isinstance((await client.get(f"/runs?{query}")).json(), dict), query
        page = (await client.get("/runs?counts=1&limit=1")).json()
        assert page["counts"] == {"COMPLETED": 5, "FAILED": 1, "RUNNING": 1}
        assert page["total"] == 7
        counts = (await client.get("/runs/counts?q=main")).json()
        assert (counts["total"], counts["exact"]) == (5, True)
        counts = (await client.get("/runs/counts?flow=main")).json()
        assert counts["tags"] == {"hello": 4, "gpu": 1}


async def test_pages_follow_each_other_without_a_gap(tmp_path: Path) -> None:
    async with gateway(tmp_path, worker=False) as (client, backend):
        # Several share a time: then the id decides.
        await put_runs(backend, [snapshot(f"r{n:02}", updated_at=float(n // 4)) for n in range(30)])
        seen: list[str] = []
        cursor = ""
        while cursor is not None:
            page = (await client.get("/runs", params={"cursor": cursor, "limit": 7})).json()
            seen += [item["run_id"] for item in page["items"]]
            cursor = page["next_cursor"]
        assert seen == [f"r{n:02}" for n in range(29, -1, -1)]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"),
        ("limit=201", "limit"),
        ("limit=x", "limit"),
        ("limit=", "limit"),
        ("status=DONE", "status"),
        ("updated_after=x", "updated_after"),
        ("updated_after=nan", "updated_after"),
        ("submitted_before=inf", "submitted_before"),
        ("cursor=x", "cursor"),
        ("cursor=%ff%00", "cursor"),
        ("counts=perhaps", "counts"),
        ("q=%00", "q"),
        ("q=" + "x" * 201, "q"),
    ],
)
async def test_a_query_that_cannot_be_used_names_its_field(
    tmp_path: Path, query: str, field: str
) -> None:
    async with gateway(tmp_path, worker=False) as (client, _):
        answer = await client.get(f"/runs?{query}")
        assert answer.status_code == 422
        problem = answer.json()
        assert (problem["detail"], problem["err_id"]) == ("invalid list query", "ERR-PYOCO-0017")
        assert problem["field"] == field
        assert field in problem["reason"]


async def test_a_cursor_is_good_for_its_own_list_only(tmp_path: Path) -> None:
    async with gateway(tmp_path, worker=False) as (client, backend):
        await put_runs(backend, [snapshot(f"r{n}", updated_at=float(n)) for n in range(4)])
        cursor = (await client.get("/runs?cursor=&limit=2")).json()["next_cursor"]
        assert await ids(client, f"cursor={cursor}") == ["r1", "r0"]
        of_old = base64.urlsafe_b64encode(b'{"u":1.0,"r":"r1"}').decode().rstrip("=")
        for query in (f"cursor={cursor}&status=FAILED", f"cursor={cursor}x", f"cursor={of_old}"):
            answer = await client.get(f"/runs?{query}")
            assert (answer.status_code, answer.json()["detail"]) == (422, "invalid list query")


async def test_deleted_runs_leave_lists_and_counts(tmp_path: Path) -> None:
    from pyoco_server.jetstream.keyvalue import KeyValue

    async with gateway(tmp_path, worker=False) as (client, backend):
        await put_runs(backend, [snapshot("r1"), snapshot("r2")])
        bucket = KeyValue(backend.connection, backend.settings.runs_kv_bucket)
        await bucket.delete("r1")
        await put_runs(backend, [snapshot("r3", status="FAILED")])
        assert set(await ids(client, "")) == {"r2", "r3"}
        assert (await client.get("/runs/counts")).json()["counts"] == {"COMPLETED": 1, "FAILED": 1}


async def test_tenants_see_their_own_runs_only(tmp_path: Path) -> None:
    async with gateway(tmp_path, worker=False, runs_ttl_sec=0.0, **KEYED) as (client, backend):
        mine, _ = await key_for(backend, "mine")
        theirs, _ = await key_for(backend, "theirs")
        await put_runs(
            backend,
            [
                snapshot("m1", tenant_id="mine", updated_at=1.0),
                snapshot("m2", tenant_id="mine", updated_at=2.0),
                snapshot("t1", tenant_id="theirs", updated_at=3.0),
                snapshot("n1", tenant_id=None, updated_at=4.0),
            ],
        )

        async def get(path: str, key: str) -> Any:
            answer = await client.get(path, headers=as_key(key))
            assert answer.status_code == 200, answer.text
            return answer.json()

        assert [item["run_id"] for item in await get("/runs", mine)] == ["m2", "m1"]
        assert [item["run_id"] for item in await get("/runs?include=full", theirs)] == ["t1"]
        assert (await get("/runs/counts", theirs))["total"] == 1
        page = await get("/runs?cursor=&limit=1", mine)
        stolen = f"/runs?cursor={page['next_cursor']}"
        answer = await client.get(stolen, headers=as_key(theirs))
        assert answer.status_code == 422
        assert (await client.get("/runs")).status_code == 401


async def test_what_was_skipped_or_failed_in_isolation_is_told(tmp_path: Path) -> None:
    """Stored is what readers of 0.5.1 know: a task that was not executed is PENDING."""
    run_id = "8c0b2c4e-4b40-4d43-9f8e-0f0a0e6d0001"
    ended = snapshot(
        run_id,
        tasks={"a": "FAILED", "b": "PENDING", "c": "SUCCEEDED"},
        task_records={"a": {"state": "FAILED"}, "b": {"state": "PENDING", "skipped": True}},
        failed_tasks=["a"],
    )
    under_way = snapshot(
        run_id[:-1] + "2",
        status="RUNNING",
        tasks={"b": "PENDING", "c": "PENDING"},
        task_records={"b": {"state": "PENDING", "skipped": True}},
    )
    async with gateway(tmp_path, worker=False) as (client, backend):
        await put_runs(backend, [ended, under_way])
        shown = {"a": "FAILED", "b": "SKIPPED", "c": "SUCCEEDED"}
        run = (await client.get(f"/runs/{run_id}?include=records")).json()
        assert (run["tasks"], run["failed_tasks"]) == (shown, ["a"])
        assert run["task_records"]["b"]["state"] == "SKIPPED"
        assert (await client.get(f"/runs/{run_id}/tasks")).json()["tasks"] == shown
        items = {item["run_id"]: item for item in (await client.get("/runs")).json()}
        assert items[run_id]["failed_tasks"] == ["a"]
        other = (await client.get(f"/runs/{under_way['run_id']}")).json()
        assert other["tasks"] == {"b": "SKIPPED", "c": "PENDING"}
