"""A cancel that was acknowledged ends CANCELLED, whenever it comes."""

from __future__ import annotations

from collections.abc import Awaitable
from pathlib import Path

import pytest
import trio
from msgspec.structs import replace

from backend.stage import (
    TAG,
    empty_queue,
    ended,
    eventually,
    new_run,
    queued,
    running,
    started,
    worker_options,
)
from pyoco_server.backend import open_backend
from pyoco_server.gateway.canceller import Canceller
from pyoco_server.gateway.new_run import Person
from pyoco_server.jetstream.keyvalue import KeyValue
from pyoco_server.jetstream.publish import publish_acked
from pyoco_server.kernel import TapEvent, TapKind
from pyoco_server.model import decisions, life
from pyoco_server.model.job import Job, encode_job, new_run_id
from pyoco_server.model.run import RunStatus, TaskState, UnreadableSnapshot, encode_snapshot
from pyoco_server.store.runs import StoredRun


async def test_a_pending_run_ends_cancelled_without_a_worker(tmp_path: Path) -> None:
    async with running(tmp_path, worker=False) as backend:
        accepted = await backend.submit(new_run("quick"))
        answer = await backend.cancel(accepted.run_id, by="api_key:k", reason="not needed")
        assert answer.status is RunStatus.CANCELLING
        assert answer.cancel_requested_by == "api_key:k"
        assert answer.cancel_requested_at is not None
        state = await ended(backend, accepted.run_id)
        assert (state.status, state.cancel_reason) == (RunStatus.CANCELLED, "not needed")

        await empty_queue(backend)
        assert await backend.get(accepted.run_id) == state


async def test_only_the_job_of_the_cancelled_run_is_withdrawn(tmp_path: Path) -> None:
    async with running(tmp_path, worker=False) as backend:
        accepted = [await backend.submit(new_run("quick", x=x)) for x in range(30)]
        for run in accepted[::3]:
            await backend.cancel(run.run_id)

        async def withdrawn() -> bool:
            return await queued(backend) == 20

        await eventually(withdrawn)
        async with open_backend(
            backend.settings_with_node(), gateway=False, worker=worker_options(tmp_path)
        ):
            for index, run in enumerate(accepted):
                status = (await ended(backend, run.run_id)).status
                assert status == ("CANCELLED" if index % 3 == 0 else "COMPLETED")


async def test_a_job_that_was_delivered_already_is_dropped_by_its_worker(tmp_path: Path) -> None:
    async with running(tmp_path, worker=False) as backend:
        accepted = await backend.submit(new_run("quick"))
        job = Job(run_id=accepted.run_id, flow_name="quick", tag=TAG)
        await backend.cancel(accepted.run_id)
        state = await ended(backend, accepted.run_id)
        await publish_acked(backend.connection, f"pyoco.work.{TAG}", encode_job(job))
        async with open_backend(
            backend.settings_with_node(), gateway=False, worker=worker_options(tmp_path)
        ):
            await empty_queue(backend)
        assert await backend.get(accepted.run_id) == state


async def test_a_cooperative_flow_ends_at_once(tmp_path: Path) -> None:
    async with running(tmp_path, run_heartbeat_interval_sec=30.0) as backend:
        accepted = await backend.submit(new_run("steps", seconds=60))
        await started(backend, accepted.run_id)
        began = trio.current_time()
        assert (await backend.cancel(accepted.run_id)).status is RunStatus.CANCELLING
        state = await ended(backend, accepted.run_id)
        assert state.status is RunStatus.CANCELLED
        # Pushed: the heartbeat that would show it otherwise is half a minute away.
        assert trio.current_time() - began < 15


async def test_a_flow_that_ignores_it_is_killed_after_the_grace_period(tmp_path: Path) -> None:
    async with running(tmp_path, cancel_grace_period_sec=0.3) as backend:
        accepted = await backend.submit(new_run("slow", seconds=60))
        await started(backend, accepted.run_id)
        await backend.cancel(accepted.run_id)
        state = await ended(backend, accepted.run_id)
        assert state.status is RunStatus.CANCELLED
        assert state.tasks == {"slow": TaskState.CANCELLED}
        assert (state.reason, state.error) == (
            "cancelled",
            "terminated (SIGTERM): the flow did not end within 0.3 s of its cancel",
        )
        after = await ended(backend, (await backend.submit(new_run("quick"))).run_id)
        assert after.status is RunStatus.COMPLETED


async def test_a_run_that_has_ended_is_returned_as_it_is(tmp_path: Path) -> None:
    async with running(tmp_path) as backend:
        state = await ended(backend, (await backend.submit(new_run("quick"))).run_id)
        assert await backend.cancel(state.run_id) == state
        assert await backend.get(state.run_id) == state


async def test_a_second_cancel_keeps_the_first_request(tmp_path: Path) -> None:
    async with running(tmp_path, cancel_grace_period_sec=30.0) as backend:
        accepted = await backend.submit(new_run("slow", seconds=1))
        await started(backend, accepted.run_id)
        first = await backend.cancel(accepted.run_id, by="a")
        second = await backend.cancel(accepted.run_id, by="b")
        assert second.cancel_requested_at == first.cancel_requested_at
        assert second.cancel_requested_by == "a"
        assert (await ended(backend, accepted.run_id)).status is RunStatus.CANCELLED


async def test_a_second_cancel_leaves_a_run_to_its_worker_of_version_0_5_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ending: list[str] = []
    real = Canceller._end_unclaimed

    def noted(canceller: Canceller, stored: StoredRun, before: StoredRun) -> Awaitable[None]:
        ending.append(stored.snapshot.run_id)
        return real(canceller, stored, before)

    monkeypatch.setattr(Canceller, "_end_unclaimed", noted)
    async with running(tmp_path, worker=False) as backend:
        pending = await backend.get((await backend.submit(new_run("quick"))).run_id)
        theirs = replace(
            pending, status=RunStatus.RUNNING, worker_id="old", start_time=pending.submitted_at
        )
        await KeyValue(backend.connection, "pyoco_runs").put(
            theirs.run_id, encode_snapshot(theirs, max_bytes=0)
        )
        for _ in range(2):
            state = await backend.cancel(theirs.run_id)
            assert state.status is RunStatus.CANCELLING
        assert not ending
        assert await backend.get(theirs.run_id) == state


async def test_a_second_cancel_ends_a_run_that_the_first_one_left(tmp_path: Path) -> None:
    """Its gateway was killed in between, and the run waits for its second attempt."""
    async with running(tmp_path, worker=False) as backend:
        pending = await backend.get((await backend.submit(new_run("quick"))).run_id)
        claimed = life.claim(pending, worker_id="w", instance_id="i", slot=0, now=1.0)
        assert isinstance(claimed, decisions.Claimed)
        given_back = life.release(claimed.snapshot, instance_id="i", attempt=1, now=2.0)
        assert isinstance(given_back, decisions.RetryLater)
        asked = life.request_cancel(given_back.snapshot, by=None, reason=None, now=3.0)
        await KeyValue(backend.connection, "pyoco_runs").put(
            pending.run_id, encode_snapshot(asked.snapshot, max_bytes=0)
        )
        await backend.cancel(pending.run_id)
        assert (await ended(backend, pending.run_id)).status is RunStatus.CANCELLED


@pytest.mark.parametrize("room", [20, 2000])
async def test_a_run_is_cancelled_for_which_a_message_has_hardly_room(
    tmp_path: Path, room: int
) -> None:
    """Version 0.5.1 accepts params that fill a message; ours may have been allowed more, once."""
    crashed: list[str] = []

    def listen(event: TapEvent) -> None:
        if event.kind is TapKind.DIED:
            crashed.append(event.path)

    async with running(tmp_path, worker=False, max_run_snapshot_bytes=65536) as backend:
        runs = KeyValue(backend.connection, "pyoco_runs")
        run = life.pending(Job(run_id=new_run_id(), flow_name="quick", tag=TAG))
        free = (runs.max_value_bytes or 0) - len(encode_snapshot(run, max_bytes=0))
        run = replace(run, params={"x": "x" * (free - room)})
        await runs.put(run.run_id, encode_snapshot(run, max_bytes=0))
        with backend.system.tap(listen):
            answer = await backend.cancel(run.run_id, reason="r" * 500)
            assert answer.status is RunStatus.CANCELLING
            state = await ended(backend, run.run_id)
        assert (state.status, state.cancel_reason) == (RunStatus.CANCELLED, "r" * 500)
        # What does not fit gives way.
        assert state.params == ({} if room == 20 else run.params)
        assert not crashed


async def test_a_run_that_cannot_be_read_is_no_crash(tmp_path: Path) -> None:
    async with running(tmp_path, worker=False) as backend:
        await KeyValue(backend.connection, "pyoco_runs").put("r1", b"garbage")
        with pytest.raises(UnreadableSnapshot):
            await backend.cancel("r1")
        with pytest.raises(UnreadableSnapshot):
            await backend.dead_letters.retry("r1", Person())
