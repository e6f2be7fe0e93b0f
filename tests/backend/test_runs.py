"""The life of a run through submitter, dispatcher, slot and child."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

from backend.stage import (
    TAG,
    dead_letters,
    empty_queue,
    ended,
    eventually,
    new_run,
    queued,
    running,
    started,
    until,
    worker_options,
)
from nats_fixtures import away
from pyoco_server.gateway.new_run import NewRun, NotAccepted, RunTooLarge
from pyoco_server.jetstream.keyvalue import KeyValue
from pyoco_server.jetstream.publish import publish_acked
from pyoco_server.model import life
from pyoco_server.model.errors import InvalidField
from pyoco_server.model.job import InvalidTag, Job, encode_job, new_run_id
from pyoco_server.model.run import RunSnapshot, RunStatus, decode_snapshot
from pyoco_server.model.worker import WorkerState, decode_worker
from pyoco_server.store.runs import RunNotFound, RunStore
from pyoco_server.worker import dispatcher


async def test_the_first_job_of_a_tag_finds_its_queue_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatcher, "_RETRY_SECONDS", 3600.0)
    async with running(tmp_path) as backend:
        run = await backend.submit(new_run("quick"))
        assert (await ended(backend, run.run_id)).status is RunStatus.COMPLETED


async def test_a_run_completes_and_its_job_leaves_the_queue(tmp_path: Path) -> None:
    async with running(tmp_path) as backend:
        accepted = await backend.submit(new_run("quick", x=41))
        assert accepted.status is RunStatus.PENDING
        state = await ended(backend, accepted.run_id)
        assert state.status is RunStatus.COMPLETED
        assert state.task_records["quick"].output == 42
        assert (state.worker_id, state.attempt, state.slot) == ("w1", 1, 0)

        await empty_queue(backend)


def test_a_tag_that_no_worker_can_take_is_refused() -> None:
    with pytest.raises(InvalidTag, match=r"not 'a\.b'"):
        NewRun("quick", tag="a.b")


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"flow_name": " "}, "flow_name: must not be empty"),
        ({"params": {"x": [math.nan]}}, "params: JSON cannot carry nan"),
        ({"params": {"x": Path("x")}}, "params: JSON cannot carry PosixPath"),
        ({"params": {"x": {1: 2}}}, "params: a key must be text, not 1"),
        ({"timeout_sec": -1}, "timeout_sec: must be seconds, more than 0"),
        ({"max_attempts": 0}, "max_attempts: must be a whole number from 1"),
        ({"memory_mb": -5}, "memory_mb: must be a whole number from 1"),
    ],
)
def test_what_no_run_can_be_asked_for_with_is_refused_by_name(
    fields: dict[str, Any], why: str
) -> None:
    with pytest.raises(InvalidField, match=why):
        NewRun(**{"flow_name": "quick", "tag": TAG, **fields})


async def test_runs_share_slots_and_all_complete(tmp_path: Path) -> None:
    async with running(tmp_path, worker=worker_options(tmp_path, slots=3)) as backend:
        async with trio.open_nursery() as nursery:
            states = []

            async def one(x: int) -> None:
                accepted = await backend.submit(new_run("quick", x=x))
                states.append(await ended(backend, accepted.run_id))

            for x in range(40):
                nursery.start_soon(one, x)
        assert sorted(state.task_records["quick"].output for state in states) == list(range(1, 41))
        assert {state.slot for state in states} == {0, 1, 2}


async def test_a_flow_that_raises_fails_with_a_dead_letter(tmp_path: Path) -> None:
    async with running(tmp_path) as backend:
        accepted = await backend.submit(new_run("broken"))
        state = await ended(backend, accepted.run_id)
        assert (state.status, state.error) == (RunStatus.FAILED, "it broke")
        assert state.reason == "execution_error"
        assert "ValueError" in (state.task_records["broken"].traceback or "")

        async def told() -> bool:
            return [letter["reason"] for letter in await dead_letters(backend)] == [
                "execution_error"
            ]

        await eventually(told, what="a dead letter")


async def test_no_dead_letter_for_a_raising_flow_where_that_is_turned_off(tmp_path: Path) -> None:
    async with running(tmp_path, dlq_publish_execution_error=False) as backend:
        await ended(backend, (await backend.submit(new_run("broken"))).run_id)
        # The next run's end proves that the first one's dead letter would have been written.
        await ended(backend, (await backend.submit(new_run("quick"))).run_id)
        assert await dead_letters(backend) == []


async def test_an_unknown_flow_is_said_so(tmp_path: Path) -> None:
    async with running(tmp_path) as backend:
        state = await ended(backend, (await backend.submit(new_run("nowhere"))).run_id)
        assert state.status is RunStatus.FAILED
        assert (state.error or "").startswith("flow_not_found")

        async def told() -> bool:
            return [x["reason"] for x in await dead_letters(backend)] == ["flow_not_found"]

        await eventually(told)


@pytest.mark.parametrize(
    ("payload", "run_id"),
    [(b"garbage", None), (b'{"run_id": "r-1"}', "r-1"), (b"[1]", None)],
)
async def test_a_message_that_is_no_job_is_buried(
    tmp_path: Path, payload: bytes, run_id: str | None
) -> None:
    async with running(tmp_path) as backend:
        await publish_acked(backend.connection, f"pyoco.work.{TAG}", payload)

        await empty_queue(backend)
        (letter,) = await dead_letters(backend)
        assert letter["reason"] == "invalid_job"
        assert letter["payload"] == payload.decode()
        assert letter.get("run_id") == run_id
        # The worker goes on.
        state = await ended(backend, (await backend.submit(new_run("quick"))).run_id)
        assert state.status is RunStatus.COMPLETED


async def test_a_job_of_a_finished_run_is_not_executed_again(tmp_path: Path) -> None:
    async with running(tmp_path) as backend:
        accepted = await backend.submit(new_run("quick"))
        state = await ended(backend, accepted.run_id)
        again = encode_job(Job(run_id=accepted.run_id, flow_name="quick", tag=TAG))
        await publish_acked(backend.connection, f"pyoco.work.{TAG}", again)

        await empty_queue(backend)
        assert await backend.get(accepted.run_id) == state


async def test_a_job_of_an_older_gateway_is_executed_without_a_snapshot(tmp_path: Path) -> None:
    async with running(tmp_path) as backend:
        run_id = new_run_id()
        job = encode_job(Job(run_id=run_id, flow_name="quick", tag=TAG, params={"x": 1}))
        await publish_acked(backend.connection, f"pyoco.work.{TAG}", job)

        async def there() -> bool:
            try:
                return (await backend.get(run_id)).status is RunStatus.COMPLETED
            except RunNotFound:
                return False

        await eventually(there)


async def test_the_job_of_a_withdrawn_submission_is_dropped(tmp_path: Path) -> None:
    async with running(tmp_path) as backend:
        bucket = KeyValue(backend.connection, "pyoco_runs")
        runs = RunStore(bucket, max_bytes=0)
        job = Job(run_id=new_run_id(), flow_name="quick", tag=TAG)
        stored = await runs.create(life.pending(job))
        assert await runs.withdraw(stored)
        late = msgspec.structs.replace(job, snapshot_revision=stored.revision)
        await publish_acked(backend.connection, f"pyoco.work.{TAG}", encode_job(late))

        await empty_queue(backend)
        with pytest.raises(RunNotFound):
            await backend.get(job.run_id)


async def test_a_claim_that_was_taken_over_stops_the_older_attempt(tmp_path: Path) -> None:
    async with running(tmp_path, run_heartbeat_interval_sec=0.1) as backend:
        accepted = await backend.submit(new_run("slow", seconds=60))
        await started(backend, accepted.run_id)
        runs = RunStore(KeyValue(backend.connection, "pyoco_runs"), max_bytes=0)

        def take_over(snapshot: RunSnapshot) -> tuple[RunSnapshot, None]:
            claimed = life.claim(snapshot, worker_id="other", instance_id="other", slot=0, now=1.0)
            return claimed.snapshot, None

        taken, _ = await runs.change(accepted.run_id, take_over)
        # The slot gives up, so it can execute the next run although the first had 60 s to go.
        state = await ended(backend, (await backend.submit(new_run("quick"))).run_id)
        assert state.status is RunStatus.COMPLETED
        assert (await runs.get(accepted.run_id)) == taken


async def test_params_that_could_not_be_written_back_are_refused(tmp_path: Path) -> None:
    async with running(tmp_path, worker=False) as backend:
        with pytest.raises(RunTooLarge, match="PYOCO_MAX_RUN_SNAPSHOT_BYTES"):
            await backend.submit(new_run("quick", x="y" * 300_000))
        assert await queued(backend) == 0


async def test_nothing_is_accepted_while_nats_is_away(tmp_path: Path) -> None:
    async with running(tmp_path, worker=False) as backend:
        async with away(backend.node, backend.connection):
            with pytest.raises(NotAccepted):
                await backend.submit(new_run("quick"))
        await backend.wait_ready(within=60)
        assert await queued(backend) == 0
        accepted = await backend.submit(new_run("quick"))
        assert (await backend.get(accepted.run_id)).status is RunStatus.PENDING


async def test_the_worker_record_keeps_what_belongs_to_the_operator(tmp_path: Path) -> None:
    async with running(tmp_path, worker_heartbeat_interval_sec=0.1) as backend:
        bucket = KeyValue(backend.connection, "pyoco_workers")

        async def known() -> bool:
            return await backend.worker("w1") is not None

        await eventually(known)
        while True:
            entry = await bucket.get("w1")
            record = decode_worker(entry.value)
            hidden = msgspec.json.encode(msgspec.structs.replace(record, hidden=True))
            try:
                revision = await bucket.update("w1", hidden, entry.revision)
                break
            except Exception:  # noqa: BLE001 - a heartbeat came in between
                continue

        async def beaten() -> bool:
            return (await bucket.get("w1")).revision > revision + 2

        await eventually(beaten)
        stored = decode_worker((await bucket.get("w1")).value)
        assert stored.hidden
        assert stored.state is WorkerState.IDLE
        assert [slot.index for slot in stored.slots] == [0]


async def test_a_watch_ends_when_its_run_is_deleted(tmp_path: Path) -> None:
    async with running(tmp_path, worker=False) as backend:
        accepted = await backend.submit(new_run("quick"))
        async with backend.watch(accepted.run_id) as states:
            assert (await anext(states)).status is RunStatus.PENDING
            await KeyValue(backend.connection, "pyoco_runs").delete(accepted.run_id)
            with trio.fail_after(60):
                assert [state async for state in states] == []


async def test_a_watch_goes_on_over_a_restart_of_the_projector(tmp_path: Path) -> None:
    async with running(tmp_path, worker=False) as backend:
        accepted = await backend.submit(new_run("quick"))
        async with backend.watch(accepted.run_id) as states:
            await anext(states)
            await backend.system.restart("/gateway/reading/runs/projector")
            await backend.cancel(accepted.run_id)
            with trio.fail_after(60):
                async for state in states:
                    if state.status is RunStatus.CANCELLED:
                        break


async def test_a_watch_of_nothing_is_refused(tmp_path: Path) -> None:
    async with running(tmp_path, worker=False) as backend:
        with pytest.raises(RunNotFound):
            async with backend.watch("no-such-run"):
                pass


async def test_the_snapshot_is_what_a_reader_of_the_bucket_sees(tmp_path: Path) -> None:
    async with running(tmp_path) as backend:
        state = await ended(backend, (await backend.submit(new_run("quick"))).run_id)
        entry = await KeyValue(backend.connection, "pyoco_runs").get(state.run_id)
        assert decode_snapshot(entry.value) == state


async def test_two_backends_in_one_process_stay_apart(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    async with running(tmp_path / "a") as one, running(tmp_path / "b") as two:
        first = await one.submit(new_run("quick", x=1))
        second = await two.submit(new_run("quick", x=2))
        assert (await ended(one, first.run_id)).task_records["quick"].output == 2
        assert (await ended(two, second.run_id)).task_records["quick"].output == 3
        with pytest.raises(RunNotFound):
            await one.get(second.run_id)


async def test_task_code_that_changed_is_taken_by_the_next_run(tmp_path: Path) -> None:
    async with running(tmp_path) as backend:
        before = await ended(backend, (await backend.submit(new_run("quick", x=1))).run_id)
        assert before.task_records["quick"].output == 2
        flows = tmp_path / "flows.py"
        flows.write_text(flows.read_text().replace("return x + 1", "return x + 100"))
        await backend.refresh_slots()
        after = await ended(backend, (await backend.submit(new_run("quick", x=1))).run_id)
        assert after.task_records["quick"].output == 101


async def test_until_is_called_with_every_state_it_can_get(tmp_path: Path) -> None:
    async with running(tmp_path) as backend:
        accepted = await backend.submit(new_run("slow", seconds=1.5))
        seen: list[RunStatus] = []

        def note(state: RunSnapshot) -> bool:
            seen.append(state.status)
            return state.status.terminal

        await until(backend, accepted.run_id, note)
        assert seen[-1] is RunStatus.COMPLETED
        assert RunStatus.RUNNING in seen
