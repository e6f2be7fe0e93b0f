"""`GET /workers` and `PATCH /workers/{worker_id}`, as the contract has them."""

from __future__ import annotations

import time
from pathlib import Path

import msgspec
import pytest
import trio

from http_api.gateway import gateway
from http_api.keyed import KEYED, as_key, key_for
from http_api.seeding import put_worker
from nats_fixtures import eventually
from pyoco_server.jetstream.keyvalue import KeyValue
from pyoco_server.model.api_key import Role


async def test_scope_state_and_hidden_choose_the_workers_last_seen_first(tmp_path: Path) -> None:
    async with gateway(tmp_path, worker=False) as (client, backend):
        now = time.time()
        await put_worker(backend, "idle", last_seen_at=now - 1)
        await put_worker(backend, "busy", state="RUNNING", last_seen_at=now)
        await put_worker(backend, "gone", last_seen_at=now - 100)
        await put_worker(backend, "left", state="STOPPED_GRACEFUL", last_seen_at=now - 200)
        await put_worker(backend, "shy", hidden=True, last_seen_at=now - 2)

        async def listed(query: str) -> list[tuple[str, str]]:
            answer = await client.get(f"/workers?{query}")
            assert answer.status_code == 200, answer.text
            return [(worker["worker_id"], worker["state"]) for worker in answer.json()]

        assert await listed("") == [("busy", "RUNNING"), ("idle", "IDLE")]
        assert await listed("scope=all") == [
            ("busy", "RUNNING"),
            ("idle", "IDLE"),
            ("gone", "DISCONNECTED"),
            ("left", "STOPPED_GRACEFUL"),
        ]
        assert await listed("include_hidden=true&state=idle") == [("idle", "IDLE"), ("shy", "IDLE")]
        assert await listed("scope=all&state=DISCONNECTED") == [("gone", "DISCONNECTED")]
        assert await listed("scope=all&limit=1") == [("busy", "RUNNING")]
        (worker, _) = (await client.get("/workers")).json()
        assert worker.keys() >= {"instance_id", "tags", "wheel_sync", "last_run_id", "slots"}


@pytest.mark.parametrize(
    "query", ["scope=some", "state=ASLEEP", "limit=0", "limit=501", "include_hidden=maybe"]
)
async def test_a_query_that_cannot_be_used_is_refused(tmp_path: Path, query: str) -> None:
    async with gateway(tmp_path, worker=False) as (client, _):
        answer = await client.get(f"/workers?{query}")
        assert answer.status_code == 422
        problem = answer.json()
        assert problem["detail"] == "invalid workers request"
        assert problem["err_id"] == "ERR-PYOCO-0019"
        assert problem["field"] == query.partition("=")[0]


async def test_hidden_is_stored_and_survives_the_workers_own_writes(tmp_path: Path) -> None:
    async with gateway(tmp_path) as (client, backend):
        with trio.fail_after(60):
            while not (await client.get("/workers")).json():
                await trio.sleep(0.02)
        answer = await client.patch("/workers/w1", json={"hidden": True})
        assert answer.status_code == 200
        assert answer.json().keys() >= {"worker_id", "hidden", "updated_at"}
        await backend.system.restart("/worker/heartbeat")
        bucket = KeyValue(backend.connection, backend.settings.workers_kv_bucket)
        seen = msgspec.json.decode((await bucket.get("w1")).value)["last_seen_at"]
        with trio.fail_after(60):
            while True:
                stored = msgspec.json.decode((await bucket.get("w1")).value)
                assert stored["hidden"] is True
                if stored["last_seen_at"] > seen:
                    break
                await trio.sleep(0.05)
        assert (await client.get("/workers")).json() == []
        assert (await client.patch("/workers/w1", json={"hidden": False})).status_code == 200


async def test_hiding_beside_a_worker_that_writes_all_the_time_loses_nothing(
    tmp_path: Path,
) -> None:
    async with gateway(tmp_path, worker=False) as (client, backend):
        await put_worker(backend, "w")
        bucket = KeyValue(backend.connection, backend.settings.workers_kv_bucket)
        hidden = False

        async def beat() -> None:
            while not hidden:
                await put_worker(backend, "w", current_run_id=str(time.time()))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(beat)
            answer = await client.patch("/workers/w", json={"hidden": True})
            hidden = True
        assert answer.status_code == 200
        stored = msgspec.json.decode((await bucket.get("w")).value)
        assert stored["current_run_id"] or stored["hidden"]


@pytest.mark.parametrize("worker_id", ["nobody", "%3E", "a%20b", "%00"])
async def test_hiding_a_worker_that_does_not_exist_is_a_404(tmp_path: Path, worker_id: str) -> None:
    async with gateway(tmp_path, worker=False) as (client, _):
        answer = await client.patch(f"/workers/{worker_id}", json={"hidden": True})
        assert (answer.status_code, answer.json()["detail"]) == (404, "worker not found")
        assert answer.json()["err_id"] == "ERR-PYOCO-0020"


@pytest.mark.parametrize("body", [b"", b"{}", b'{"hidden": "yes"}', b"[]", b"\xff"])
async def test_a_body_that_says_nothing_of_hidden_is_refused(tmp_path: Path, body: bytes) -> None:
    async with gateway(tmp_path, worker=False) as (client, backend):
        await put_worker(backend, "w")
        answer = await client.patch("/workers/w", content=body)
        assert answer.status_code == 422
        assert (answer.json()["detail"], answer.json()["field"]) == (
            "invalid workers request",
            "hidden",
        )


async def test_hiding_needs_the_role_for_it(tmp_path: Path) -> None:
    async with gateway(tmp_path, worker=False, **KEYED) as (client, backend):
        await put_worker(backend, "w")
        submitter, _ = await key_for(backend, roles=[Role.SUBMIT])
        operator, _ = await key_for(backend, roles=[Role.OPERATE])
        body = {"hidden": True}
        assert (await client.get("/workers")).status_code == 401
        assert (await client.get("/workers", headers=as_key(submitter))).status_code == 200
        refused = await client.patch("/workers/w", json=body, headers=as_key(submitter))
        assert refused.status_code == 403
        taken = await client.patch("/workers/w", json=body, headers=as_key(operator))
        assert taken.status_code == 200


async def test_an_order_says_who_gave_it_and_why_to_those_who_may_give_some(tmp_path: Path) -> None:
    async with gateway(tmp_path, worker=False, **KEYED) as (client, backend):
        await put_worker(backend, "w", tags=["default"], slots=[{"index": 0}])
        reader, _ = await key_for(backend, roles=[Role.SUBMIT])
        operator, record = await key_for(backend, roles=[Role.OPERATE])
        wish = {"reason": "disk is full", "requested_by": "somebody else"}
        paused = await client.post("/workers/w/pause", json=wish, headers=as_key(operator))
        assert paused.status_code == 200, paused.text
        by = paused.json()["ordered_by"]
        assert by == f"api_key:{record.key_id}"

        async def orders(key: str) -> tuple[object, ...]:
            [worker] = (await client.get("/workers", headers=as_key(key))).json()
            return worker["paused"], worker["ordered_by"], worker["order_reason"]

        async def told() -> bool:
            return (await orders(operator))[0] is True

        await eventually(told)
        assert await orders(operator) == (True, by, "disk is full")
        assert await orders(reader) == (True, None, None)
        again = await client.post("/workers/w/resume", headers=as_key(operator))
        assert (again.json()["paused"], again.json()["order_reason"]) == (False, None)
        for body in ({"why": "x"}, {"reason": "x" * 501}, {"reason": 1}):
            refused = await client.post("/workers/w/pause", json=body, headers=as_key(operator))
            assert refused.status_code == 422, refused.text


async def test_workers_of_a_tag_are_those_that_the_caller_knows_to_have_it(tmp_path: Path) -> None:
    async with gateway(tmp_path, worker=False, **KEYED) as (client, backend):
        await put_worker(backend, "w1", tags=["default", "secret"])
        await put_worker(backend, "w2", tags=["default"])
        reader, _ = await key_for(backend, roles=[Role.SUBMIT])
        admin, _ = await key_for(backend)

        async def of(tag: str, key: str) -> set[str]:
            answer = await client.get(f"/workers?tag={tag}&limit=2", headers=as_key(key))
            return {worker["worker_id"] for worker in answer.json()}

        assert await of("secret", admin) == {"w1"}
        assert await of("secret", reader) == set()
        assert await of("default", reader) == {"w1", "w2"}
        assert await of("other", admin) == set()
