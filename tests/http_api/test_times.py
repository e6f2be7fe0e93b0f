"""When runs may start, until when, and whether they are late, over HTTP and with the client."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from quart.datastructures import FileStorage

from backend.stage import ended, eventually, running
from http_api.gateway import gateway
from pyoco_http.app import create_app
from pyoco_server.client import AsyncPyocoHttpClient, HttpProblem
from pyoco_server.model.timing import TIMING_FIELDS
from pyoco_server.store.queue import JobQueue

YAML = b"""\
flow: {graph: a}
tasks:
  a: {callable: pyoco_server._workflow_test_tasks:add_one}
"""


async def test_every_way_of_submitting_takes_times(tmp_path: Path) -> None:
    async with running(tmp_path, worker=False) as backend:
        client = create_app(backend).test_client()
        due = round(time.time()) + 600.0
        iso = datetime.fromtimestamp(due, UTC).isoformat()
        times = {"start_at": iso, "queue_ttl_sec": 60, "expected_end_within_sec": "9.5"}

        async def told(answer: Any) -> dict[str, Any]:
            assert answer.status_code == 200, await answer.get_data(as_text=True)
            body: dict[str, Any] = await answer.get_json()
            return body

        one = await told(await client.post("/runs", json={"flow_name": "f", **times}))
        assert one == {
            "run_id": one["run_id"],
            # What a client of version 0.5.1 knows.
            "status": "PENDING",
            "state": "SCHEDULED",
            "scheduled_for": due,
        }
        form = await told(
            await client.post(
                "/runs/yaml",
                form={"flow_name": "main", **{k: str(v) for k, v in times.items()}},
                files={"workflow": FileStorage(BytesIO(YAML), filename="flow.yaml")},
            )
        )
        runs = [{"flow_name": "f", **times}, {"flow_name": "f", "delay_sec": -1}]
        batch = await told(await client.post("/runs/batch", json={"runs": runs}))
        first, second = batch["items"]
        assert second["error"]["field"] == "delay_sec"
        await backend.cancel(one["run_id"])
        await ended(backend, one["run_id"])
        again = await told(
            await client.post(f"/runs/{one['run_id']}/retry", json={"start_at": due})
        )
        for accepted in (form, first, again):
            assert (accepted["state"], accepted["scheduled_for"]) == ("SCHEDULED", due)
            shown = await told(await client.get(f"/runs/{accepted['run_id']}"))
            assert (shown["status"], shown["state"]) == ("PENDING", "SCHEDULED")
            assert (shown["scheduled_for"], shown["late"]) == (due, None)
            assert shown["expected_end_within_sec"] == 9.5
            # When it may start, and until when, is asked for anew by a retry.
            assert shown["expires_at"] == (None if accepted is again else due + 60)
        plain = await told(await client.post("/runs", json={"flow_name": "f"}))
        assert set(plain) == {"run_id", "status"}
        shown = await told(await client.get(f"/runs/{plain['run_id']}"))
        assert shown["state"] == "PENDING"
        assert {shown[name] for name in ("scheduled_for", "expires_at", "late")} == {None}


NONSENSE: list[tuple[dict[str, Any], str]] = [
    ({"start_at": "tomorrow"}, "start_at"),
    ({"start_at": "2030-01-01T00:00:00"}, "start_at"),
    ({"start_at": 1e300}, "start_at"),
    ({"start_at": {"at": 1}}, "start_at"),
    ({"delay_sec": "soon"}, "delay_sec"),
    ({"delay_sec": 1e9}, "delay_sec"),
    ({"delay_sec": 1, "start_at": 1}, "delay_sec"),
    ({"expires_at": True}, "expires_at"),
    ({"delay_sec": 60, "expires_at": 1}, "expires_at"),
    ({"queue_ttl_sec": 0}, "queue_ttl_sec"),
]


async def test_nonsense_is_refused_and_names_its_field(tmp_path: Path) -> None:
    async with running(tmp_path, worker=False) as backend:
        client = create_app(backend).test_client()
        run_id = (await (await client.post("/runs", json={"flow_name": "f"})).get_json())["run_id"]
        for asked, field in NONSENSE:
            for answer in (
                await client.post("/runs", json={"flow_name": "f", **asked}),
                await client.patch(f"/runs/{run_id}", json=asked),
                await client.post(f"/runs/{run_id}/retry", json=asked),
            ):
                body = await answer.get_json()
                assert (answer.status_code, body["detail"]) == (422, f"invalid {field}")
                assert (body["field"], bool(body["reason"])) == (field, True)


async def test_a_run_that_has_not_started_is_moved(tmp_path: Path) -> None:
    async with (
        gateway(tmp_path, worker=True) as (http, backend),
        AsyncPyocoHttpClient(str(http.base_url)) as client,
    ):
        run = await client.submit_run("quick", tag="hello", delay_sec=600)
        moved = await client.reschedule_run(run["run_id"], delay_sec=900, queue_ttl_sec=30)
        assert moved["state"] == "SCHEDULED"
        assert moved["scheduled_for"] == pytest.approx(backend.reads.now() + 900, abs=60)
        assert moved["scheduled_for"] is not None
        assert moved["expires_at"] is not None
        assert moved["expires_at"] - moved["scheduled_for"] == pytest.approx(30, abs=0.01)
        assert await client.reschedule_run(run["run_id"]) == moved
        moved = await client.reschedule_run(run["run_id"], start_at=0)
        assert moved["state"] == "PENDING"
        assert (await ended(backend, run["run_id"])).status == "COMPLETED"
        with pytest.raises(HttpProblem) as refused:
            await client.reschedule_run(run["run_id"], start_at=0)
        assert (refused.value.status, refused.value.detail) == (409, "run cannot be moved")
        assert refused.value.extra["state"] == "COMPLETED"
        with pytest.raises(HttpProblem) as refused:
            await client.reschedule_run("nobody", start_at=0)
        assert refused.value.status == 404
        with pytest.raises(TypeError, match="timeout_sec"):
            await client.reschedule_run(run["run_id"], timeout_sec=1)  # type: ignore[call-arg]


async def test_lists_tell_what_waits_for_its_time_and_what_is_late(tmp_path: Path) -> None:
    async with (
        gateway(tmp_path, worker=False) as (http, backend),
        AsyncPyocoHttpClient(str(http.base_url)) as client,
    ):

        async def submit(**times: Any) -> str:
            return str((await client.submit_run("f", tag="hello", **times))["run_id"])

        waits = await submit()
        later = await submit(delay_sec=600)
        soon = await submit(delay_sec=0.6)
        expired = await submit(queue_ttl_sec=0.2)
        late = await submit(expected_start_within_sec=0.2)
        await ended(backend, expired)

        async def is_late() -> bool:
            return len((await client.find_runs(late=True))["items"]) == 1

        await eventually(is_late)

        async def listed(**query: Any) -> set[str]:
            return {run["run_id"] for run in (await client.find_runs(**query))["items"]}

        async def due() -> bool:
            return await listed(status="SCHEDULED") == {later}

        await eventually(due)
        # A status has all that are stored as it, as pyoco-server 0.5.1 would list them.
        assert await listed(status="PENDING") == {waits, later, soon, late}
        assert await listed(status="FAILED") == {expired} == await listed(status="EXPIRED")
        assert await listed(status="SCHEDULED,EXPIRED") == {later, expired}
        assert await listed(late=True, status="PENDING") == {late}
        (item,) = (await client.find_runs(late=True))["items"]
        assert (item["late"], item["state"]) == ({"start": True, "end": False}, "PENDING")
        (item,) = (await client.find_runs(status="SCHEDULED"))["items"]
        assert (item["status"], item["state"]) == ("PENDING", "SCHEDULED")
        counts = await client.count_runs()
        assert counts["counts"] == {"PENDING": 3, "SCHEDULED": 1, "EXPIRED": 1}
        assert counts["total"] == 5
        assert (await client.count_runs(status="EXPIRED"))["counts"] == {"EXPIRED": 1}
        assert (await client.count_runs(status="PENDING", q="f"))["counts"] == {
            "PENDING": 3,
            "SCHEDULED": 1,
        }
        text = (await http.get("/metrics")).text
        for line in (
            'pyoco_runs_total{status="PENDING"} 4.0',
            'pyoco_runs_total{status="FAILED"} 1.0',
            "pyoco_runs_scheduled 1.0",
            "pyoco_runs_expired 1.0",
            'pyoco_runs_late{what="start"} 1.0',
            'pyoco_runs_late{what="end"} 0.0',
            'pyoco_runs_marked_late{what="start"} 1.0',
        ):
            assert line in text.replace("_total{what", "{what"), line


async def test_a_server_that_holds_nothing_back_is_said_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def cannot(_: JobQueue) -> bool:
        return False

    monkeypatch.setattr(JobQueue, "can_hold_back", cannot)
    async with running(tmp_path, worker=False) as backend:
        client = create_app(backend).test_client()
        answer = await client.post("/runs", json={"flow_name": "f", "delay_sec": 5})
        body = await answer.get_json()
        assert (answer.status_code, body["field"]) == (422, "start_at")
        assert "2.12" in body["reason"]


def test_the_client_takes_each_time() -> None:
    from pyoco_server.client.requests import TIME_NAMES

    assert set(TIME_NAMES) == set(TIMING_FIELDS)
