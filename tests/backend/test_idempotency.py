"""Submissions with the same idempotency key make one run, whatever was lost on the way."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from msgspec.structs import replace as changed

from backend.stage import TAG, ended, queued, running
from pyoco_server.backend import Backend, open_backend
from pyoco_server.gateway import intake
from pyoco_server.gateway.new_run import Accepted, KeyReused, NewRun, NotAccepted
from pyoco_server.jetstream.connection import Connection
from pyoco_server.jetstream.errors import Unanswered
from pyoco_server.jetstream.keyvalue import KeyValue
from pyoco_server.jetstream.publish import publish_acked
from pyoco_server.jetstream.requests import RawMessage
from pyoco_server.model import life
from pyoco_server.model.idempotency import (
    IdempotencyRecord,
    InvalidIdempotencyKey,
    storage_key,
)
from pyoco_server.model.job import encode_job, new_run_id
from pyoco_server.model.json_text import encode_json
from pyoco_server.model.run import RunStatus, UnreadableSnapshot
from pyoco_server.store.idempotency import HeldKey, IdempotencyStore
from pyoco_server.store.runs import RunStore


def keyed(key: str = "k-1", **changes: object) -> NewRun:
    fields: dict[str, object] = {"params": {"x": 1}, "idempotency_key": key, **changes}
    return NewRun("quick", TAG, **fields)  # type: ignore[arg-type]


@asynccontextmanager
async def second_gateway(backend: Backend) -> AsyncIterator[Backend]:
    async with open_backend(backend.settings_with_node()) as other:
        await other.wait_ready(within=60)
        yield other


async def stored_runs(backend: Backend) -> int:
    return len(await KeyValue(backend.connection, backend.settings.runs_kv_bucket).all())


def store_of(backend: Backend) -> IdempotencyStore:
    return IdempotencyStore(KeyValue(backend.connection, backend.settings.idempotency_kv_bucket))


async def test_fifty_uses_of_a_key_at_two_gateways_make_one_run(tmp_path: Path) -> None:
    async with running(tmp_path, worker=False) as backend, second_gateway(backend) as other:
        answers: list[Accepted] = []

        async def use(gateway: Backend) -> None:
            answers.append(await gateway.submit(keyed()))

        async with trio.open_nursery() as nursery:
            for number in range(50):
                nursery.start_soon(use, (backend, other)[number % 2])
        assert len({answer.run_id for answer in answers}) == 1
        assert sorted(answer.replayed for answer in answers) == [False] + [True] * 49
        assert await stored_runs(backend) == 1
        assert await queued(backend) == 1


BATCH_STEPS = {
    "keys": (IdempotencyStore, "create_all"),
    "runs": (RunStore, "create_all"),
    "jobs": (intake, "publish_batch"),
    "settled": (IdempotencyStore, "settle_all"),
}


@pytest.mark.parametrize("step", BATCH_STEPS)
@pytest.mark.parametrize("done", [False, True])
async def test_each_keyed_run_of_a_batch_is_one_run_whatever_step_gets_no_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, done: bool
) -> None:
    owner, name = BATCH_STEPS[step]
    real = getattr(owner, name)
    reached: list[str] = []

    async def unanswered(*args: Any, **options: Any) -> Any:
        reached.append(step)
        if done:
            await real(*args, **options)
        raise Unanswered("no answer")

    runs = [keyed(f"k-{number}") for number in range(5)]
    async with running(tmp_path, worker=False) as backend:
        monkeypatch.setattr(owner, name, unanswered)
        monkeypatch.setattr(IdempotencyStore, "take_over", None)  # its keys are its own
        first = await backend.submit_all(runs)
        assert reached == [step]
        ids = [each.run_id for each in first if isinstance(each, Accepted)]
        assert len(set(ids)) == 5
        monkeypatch.undo()
        again = await backend.submit_all(runs)
        assert again == [Accepted(run_id, replayed=True) for run_id in ids]
        assert await stored_runs(backend) == 5
        assert await queued(backend) == 5


@pytest.mark.parametrize("done", [False, True])
async def test_a_batch_that_may_be_settled_is_not_taken_back_for_want_of_another_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, done: bool
) -> None:
    """Its jobs are queued and its keys, perhaps, answered with its runs: nothing is queued again."""
    real_settle, real_request = IdempotencyStore.settle_all, Connection.request
    deaf = False

    async def unanswered(store: IdempotencyStore, held: Sequence[HeldKey]) -> None:
        nonlocal deaf
        if done:
            await real_settle(store, held)
        deaf = True
        raise Unanswered("no answer")

    async def request(self: Connection, subject: str, *args: Any, **options: Any) -> RawMessage:
        if deaf and subject.startswith("pyoco.work."):
            raise Unanswered("no answer")
        return await real_request(self, subject, *args, **options)

    runs = [keyed(f"k-{number}") for number in range(3)]
    async with running(tmp_path, worker=False) as backend:
        monkeypatch.setattr(IdempotencyStore, "settle_all", unanswered)
        monkeypatch.setattr(Connection, "request", request)
        first = await backend.submit_all(runs)
        assert deaf
        monkeypatch.undo()
        ids = [each.run_id for each in first if isinstance(each, Accepted)]
        assert first == [Accepted(run_id) for run_id in ids], "each new, and none refused"
        assert await backend.submit_all(runs) == [Accepted(each, replayed=True) for each in ids]
        assert await stored_runs(backend) == 3
        assert await queued(backend) == 3


async def test_keyed_runs_of_a_batch_take_four_messages_in_flight(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(tmp_path, worker=False) as backend:
        requests: list[str] = []
        real = Connection.request

        async def request(self: Connection, subject: str, *args: Any, **options: Any) -> RawMessage:
            if subject.startswith(("$KV.pyoco_runs.", "$KV.pyoco_idempotency.", "pyoco.work.")):
                requests.append(subject)
            return await real(self, subject, *args, **options)

        monkeypatch.setattr(Connection, "request", request)
        await backend.submit_all([keyed(f"k-{number}") for number in range(100)])
        assert len(requests) == 4, "keys, snapshots, jobs, keys again"
        assert await queued(backend) == 100


async def test_a_batch_with_a_key_of_another_submission_refuses_that_one_alone(
    tmp_path: Path,
) -> None:
    async with running(tmp_path, worker=False) as backend:
        first = await backend.submit(keyed("k-0"))
        runs = [keyed("k-0"), keyed("k-0", params={"x": 2}), keyed("k-1"), keyed("k-1")]
        same, other, new, twice = await backend.submit_all(runs)
        assert same == Accepted(first.run_id, replayed=True)
        assert isinstance(other, KeyReused)
        assert isinstance(new, Accepted)
        assert isinstance(twice, Accepted)
        assert new.run_id == twice.run_id
        assert {new.replayed, twice.replayed} == {False, True}
        assert await stored_runs(backend) == 2


async def test_a_repeat_is_answered_with_the_run_even_after_its_end(tmp_path: Path) -> None:
    async with running(tmp_path) as backend:
        first = await backend.submit(keyed())
        await ended(backend, first.run_id)
        again = await backend.submit(keyed())
        assert (again.run_id, again.replayed) == (first.run_id, True)
        assert (await backend.get(first.run_id)).attempt == 1


async def test_keys_of_two_tenants_and_two_keys_are_apart(tmp_path: Path) -> None:
    async with running(tmp_path, worker=False) as backend:
        answers = [
            await backend.submit(keyed("a", tenant_id="t1")),
            await backend.submit(keyed("a", tenant_id="t2")),
            await backend.submit(keyed("b", tenant_id="t1")),
            await backend.submit(keyed("a")),
        ]
        assert len({answer.run_id for answer in answers}) == 4


async def test_a_key_for_another_submission_is_refused(tmp_path: Path) -> None:
    async with running(tmp_path, worker=False) as backend:
        first = await backend.submit(keyed(params={"x": 1, "y": 2}))
        with pytest.raises(KeyReused, match=f"another submission, of run {first.run_id}"):
            await backend.submit(keyed(params={"x": 2, "y": 2}))
        # The order of keys, who asks and how it is traced are not what is submitted.
        same = keyed(params={"y": 2, "x": 1}, api_key_id="other", request_id="r", traceparent="t")
        assert (await backend.submit(same)).run_id == first.run_id


@pytest.mark.parametrize("key", ["", "x" * 256, "a b", "ключ", "a\n", "\x7f"])
def test_what_is_no_key(key: str) -> None:
    with pytest.raises(InvalidIdempotencyKey, match="1 to 255 visible ASCII"):
        keyed(key)


@pytest.mark.parametrize("stored", ["nothing", "snapshot", "snapshot and job"])
async def test_a_gateway_that_died_on_the_way_does_not_burn_the_key(
    tmp_path: Path, stored: str
) -> None:
    """What a gateway leaves that is killed after the key, the snapshot, or the job."""
    async with running(tmp_path) as backend:
        run = keyed()
        run_id = new_run_id()
        record = IdempotencyRecord(run_id=run_id, digest=run.digest(), owner="dead")
        await store_of(backend).create(storage_key(None, "k-1"), record)
        job = run.job(run_id, time.time())
        runs = RunStore(KeyValue(backend.connection, "pyoco_runs"), max_bytes=0)
        if stored != "nothing":
            snapshot = await runs.create(life.pending(job))
            if stored == "snapshot and job":
                payload = encode_job(changed(job, snapshot_revision=snapshot.revision))
                await publish_acked(backend.connection, f"pyoco.work.{TAG}", payload)
                await ended(backend, run_id)
        with trio.fail_after(60):
            answer = await backend.submit(run)
        assert answer.run_id == run_id
        state = await ended(backend, run_id)
        assert (state.status, state.attempt) == (RunStatus.COMPLETED, 1)
        assert (await backend.submit(run)).replayed


async def test_the_job_of_a_try_that_was_taken_over_is_not_executed(tmp_path: Path) -> None:
    async with running(tmp_path) as backend:
        run = keyed()
        run_id = new_run_id()
        dead = run.job(run_id, time.time() - 60)
        record = IdempotencyRecord(run_id=run_id, digest=run.digest(), owner="dead")
        await store_of(backend).create(storage_key(None, "k-1"), record)
        assert (await backend.submit(run)).run_id == run_id
        state = await ended(backend, run_id)
        # The dead gateway's job arrives late; without its own snapshot it is nobody's.
        payload = encode_job(changed(dead, snapshot_revision=1))
        await publish_acked(backend.connection, f"pyoco.work.{TAG}", payload)
        await ended(backend, (await backend.submit(NewRun("quick", TAG))).run_id)
        assert await backend.get(run_id) == state


async def test_a_try_that_gave_up_lets_the_next_one_begin_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who waits for one that works on it still is refused in the end."""
    monkeypatch.setattr("pyoco_server.gateway.idempotency._SILENCE_SECONDS", 600.0)
    async with running(tmp_path, worker=False) as backend:
        run = keyed()
        where = storage_key(None, "k-1")
        record = IdempotencyRecord(run_id=new_run_id(), digest=run.digest(), owner="one")
        held = await store_of(backend).create(where, record)
        assert held is not None
        await store_of(backend).release(held)
        assert (await backend.submit(run)).run_id == record.run_id


async def test_a_try_that_lost_its_key_does_not_settle_it(tmp_path: Path) -> None:
    async with running(tmp_path, worker=False) as backend:
        keys = store_of(backend)
        record = IdempotencyRecord(run_id=new_run_id(), digest="d", owner="one")
        held = await keys.create("key", record)
        assert held is not None
        assert await keys.create("key", changed(record, owner="late")) is None
        taken = await keys.take_over(held, "two")
        assert taken is not None
        assert await keys.take_over(held, "three") is None
        assert not await keys.settle(held)
        await keys.release(held)
        assert await keys.settle(taken)
        stored = await keys.get("key")
        assert stored is not None
        assert (stored.record.owner, stored.record.accepted) == ("two", True)


async def test_a_record_that_cannot_be_read_is_told_and_harms_nobody(tmp_path: Path) -> None:
    async with running(tmp_path, worker=False) as backend:
        bucket = KeyValue(backend.connection, backend.settings.idempotency_kv_bucket)
        await bucket.put(storage_key(None, "k-1"), encode_json(["no record"]))
        with pytest.raises(NotAccepted, match="no record of an idempotency key"):
            await backend.submit(keyed())
        assert (await backend.submit(keyed("k-2"))).run_id


async def test_a_run_of_a_batch_that_an_earlier_try_left_unreadable_is_refused_alone(
    tmp_path: Path,
) -> None:
    async with running(tmp_path, worker=False) as backend:
        run_id, runs = new_run_id(), KeyValue(backend.connection, backend.settings.runs_kv_bucket)
        begun = IdempotencyRecord(
            run_id=run_id, digest=keyed().digest(), owner="another", released=True
        )
        assert await store_of(backend).create(storage_key(None, "k-1"), begun) is not None
        await runs.put(run_id, b"no snapshot")
        refused, other = await backend.submit_all([keyed(), keyed("k-2")])
        assert isinstance(refused, UnreadableSnapshot)
        assert isinstance(other, Accepted)
        await runs.delete(run_id)
        held = await store_of(backend).get(storage_key(None, "k-1"))
        assert held is not None
        assert held.record.released, "the next try may begin at once"
        assert (await backend.submit(keyed())).run_id == run_id
