"""Runs that are to start later: in their time, never when cancelled, and whenever they were moved to."""

from __future__ import annotations

import dataclasses
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import trio
from msgspec.structs import replace

from backend.stage import (
    TAG,
    deliver,
    empty_queue,
    ended,
    eventually,
    new_run,
    queued,
    running,
    settings_for,
    until,
    worker_options,
)
from backend.test_waiting_runs import Claims
from nats_servers import server_in
from pyoco_server.backend import Backend, open_backend
from pyoco_server.gateway import waiting_runs
from pyoco_server.gateway.new_run import Accepted, CannotWait, NewRun
from pyoco_server.gateway.waiting_runs import RunHasStarted
from pyoco_server.jetstream.errors import Unanswered
from pyoco_server.jetstream.resources import ensure_consumer
from pyoco_server.model import decisions
from pyoco_server.model.errors import InvalidField
from pyoco_server.model.job import decode_job
from pyoco_server.model.punctuality import state_of
from pyoco_server.model.run import RunSnapshot, RunState, RunStatus, known
from pyoco_server.model.timing import Timing
from pyoco_server.store.queue import JobQueue


def timed(flow_name: str = "quick", **times: Any) -> NewRun:
    return dataclasses.replace(new_run(flow_name), timing=Timing(**times))


async def state(backend: Backend, run_id: str) -> RunState:
    return state_of(await backend.get(run_id), backend.reads.now())


def queue_of(backend: Backend) -> JobQueue:
    return JobQueue(backend.connection, backend.settings)


async def held_back(backend: Backend) -> frozenset[str]:
    return await queue_of(backend).held_back_runs()


async def test_a_run_starts_when_it_is_to(tmp_path: Path) -> None:
    async with running(tmp_path) as backend:
        due = backend.reads.now() + 2.0
        later = await backend.submit(timed(start_at=due))
        assert (later.status, later.scheduled_for) == (RunStatus.PENDING, due)
        looked = await state(backend, later.run_id)
        assert looked is RunState.SCHEDULED or backend.reads.now() >= due
        # Others do not wait for it.
        quick = await backend.submit(new_run("quick"))
        other = await ended(backend, quick.run_id)
        run = await ended(backend, later.run_id)
        assert other.status is run.status is RunStatus.COMPLETED
        assert run.start_time is not None
        assert (other.end_time or due) <= run.start_time
        assert -0.05 <= run.start_time - due < 10
        assert known(run.scheduled_for) == due
        await empty_queue(backend)


async def test_what_has_passed_means_now(tmp_path: Path) -> None:
    async with running(tmp_path) as backend:
        for run in (timed(start_at=time.time() - 60), timed(delay_sec=0.0)):
            accepted = await backend.submit(run)
            assert accepted.scheduled_for is None
            done = await ended(backend, accepted.run_id)
            assert (done.status, known(done.scheduled_for)) == (RunStatus.COMPLETED, None)


async def test_many_are_accepted_at_once_each_with_its_time(tmp_path: Path) -> None:
    async with running(tmp_path, worker=False) as backend:
        runs = [timed(delay_sec=60.0), new_run("quick"), timed(delay_sec=90.0)]
        keyed = dataclasses.replace(timed(delay_sec=30.0), idempotency_key="k")
        accepted = await backend.submit_all([*runs, keyed])
        assert all(isinstance(each, Accepted) for each in accepted)
        dues = [each.scheduled_for for each in accepted if isinstance(each, Accepted)]
        waits = [None if due is None else round(due - backend.reads.now(), -1) for due in dues]
        assert waits == [60, None, 90, 30]
        assert len(await held_back(backend)) == 3
        # The same submission again is told the time of the first one.
        again = await backend.submit(keyed)
        assert (again.replayed, again.scheduled_for) == (True, dues[3])


async def test_a_server_that_holds_nothing_back_has_the_run_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def cannot(_: JobQueue) -> bool:
        return False

    monkeypatch.setattr(JobQueue, "can_hold_back", cannot)
    async with running(tmp_path, worker=False) as backend:
        with pytest.raises(CannotWait, match=r"2\.12"):
            await backend.submit(timed(delay_sec=60.0))
        first, second = await backend.submit_all([timed(delay_sec=60.0), new_run("quick")])
        assert isinstance(first, CannotWait)
        assert isinstance(second, Accepted)
        # What needs no holding back is taken.
        await backend.submit(timed(delay_sec=0.0, queue_ttl_sec=60.0))
        with pytest.raises(CannotWait):
            await backend.move(second.run_id, Timing(delay_sec=60.0))


# Cancelled -------------------------------------------------------------------------------------------


async def test_a_cancelled_run_is_withdrawn_at_once_and_never_starts(tmp_path: Path) -> None:
    async with running(tmp_path) as backend:
        due = backend.reads.now() + 60
        accepted = await backend.submit(timed(start_at=due))
        await backend.cancel(accepted.run_id)
        assert (await ended(backend, accepted.run_id)).status is RunStatus.CANCELLED

        async def withdrawn() -> bool:
            return await queued(backend) == 0

        await eventually(withdrawn)
        assert backend.reads.now() < due


@pytest.mark.parametrize("claims_first", [False, True])
async def test_a_cancel_in_the_moment_when_the_run_is_due(
    tmp_path: Path, *, claims_first: bool
) -> None:
    """The worker has the job in its hands already."""
    async with running(tmp_path, worker=False) as backend:
        await ensure_consumer(backend.connection, backend.settings, TAG)
        accepted = await backend.submit(timed(delay_sec=0.3))
        delivery = await deliver(backend)
        worker = Claims(backend, decode_job(delivery.data))
        if claims_first:
            assert isinstance(await worker.claim("a", delivery), decisions.Claimed)
            assert (await backend.cancel(accepted.run_id)).status is RunStatus.CANCELLING
        else:
            await backend.cancel(accepted.run_id)
            await ended(backend, accepted.run_id)
            assert isinstance(await worker.claim("a", delivery), decisions.AlreadyTerminal)
            assert (await backend.get(accepted.run_id)).start_time is None
            await empty_queue(backend)


# Moved -----------------------------------------------------------------------------------------------


async def test_a_run_is_moved_later_and_earlier(tmp_path: Path) -> None:
    async with running(tmp_path) as backend:
        accepted = await backend.submit(timed(delay_sec=2.0))
        later = backend.reads.now() + 300
        moved = await backend.move(accepted.run_id, Timing(start_at=later))
        assert known(moved.scheduled_for) == later
        other = await backend.submit(timed(delay_sec=2.4))
        await ended(backend, other.run_id)
        assert await state(backend, accepted.run_id) is RunState.SCHEDULED
        assert await held_back(backend) == {accepted.run_id}
        await backend.move(accepted.run_id, Timing(start_at=0.0))
        run = await ended(backend, accepted.run_id)
        assert run.status is RunStatus.COMPLETED
        with pytest.raises(RunHasStarted, match="COMPLETED"):
            await backend.move(accepted.run_id, Timing(delay_sec=5.0))
        await empty_queue(backend)


async def test_a_run_that_waits_in_the_queue_can_be_moved_too(tmp_path: Path) -> None:
    async with running(tmp_path, worker=False) as backend:
        accepted = await backend.submit(new_run("quick"))
        await backend.move(accepted.run_id, Timing(delay_sec=300.0))
        assert await held_back(backend) == {accepted.run_id}
        assert await queued(backend) == 1
        assert await state(backend, accepted.run_id) is RunState.SCHEDULED
        await backend.cancel(accepted.run_id)
        await empty_queue(backend)


async def test_a_move_in_the_moment_when_the_run_is_due(tmp_path: Path) -> None:
    """The worker has the job already, of the time before: the run's own time counts."""
    async with running(tmp_path, worker=False) as backend:
        await ensure_consumer(backend.connection, backend.settings, TAG)
        accepted = await backend.submit(timed(delay_sec=0.3))
        delivery = await deliver(backend)
        worker = Claims(backend, decode_job(delivery.data))
        await backend.move(accepted.run_id, Timing(delay_sec=300.0))
        assert isinstance(await worker.claim("a", delivery), decisions.NotYet)
        # The other way round it has started.
        second = await backend.submit(timed(delay_sec=0.3))
        delivery = await deliver(backend)
        assert decode_job(delivery.data).run_id == second.run_id
        assert isinstance(await worker.claim("a", delivery), decisions.Claimed)
        with pytest.raises(RunHasStarted, match="RUNNING"):
            await backend.move(second.run_id, Timing(delay_sec=300.0))


async def test_a_worker_puts_back_what_comes_too_early(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The gateway was killed when it had stored the new time, and its job still has the old one."""

    async def killed(*_: object) -> None:
        raise Unanswered("killed")

    monkeypatch.setattr(waiting_runs, "find_job", killed)
    async with running(tmp_path) as backend:
        accepted = await backend.submit(timed(delay_sec=3.0))
        due = backend.reads.now() + 4.5
        await backend.move(accepted.run_id, Timing(start_at=due))
        run = await ended(backend, accepted.run_id)
        assert (run.status, run.attempt) == (RunStatus.COMPLETED, 1)
        assert run.start_time is not None
        assert -0.05 <= run.start_time - due < 10


async def test_a_run_that_was_moved_to_earlier_is_not_forgotten_in_its_old_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def killed(*_: object) -> None:
        raise Unanswered("killed")

    monkeypatch.setattr(waiting_runs, "find_job", killed)
    async with running(tmp_path) as backend:
        accepted = await backend.submit(timed(delay_sec=600.0))
        await backend.move(accepted.run_id, Timing(start_at=0.0))
        assert (await ended(backend, accepted.run_id)).status is RunStatus.COMPLETED


async def test_a_run_does_not_expire_before_it_may_start(tmp_path: Path) -> None:
    async with running(tmp_path, worker=False) as backend:
        accepted = await backend.submit(timed(delay_sec=60.0, queue_ttl_sec=30.0))
        before = await backend.get(accepted.run_id)
        with pytest.raises(InvalidField, match="start_at"):
            await backend.move(accepted.run_id, Timing(delay_sec=100.0))
        with pytest.raises(InvalidField, match="expires_at"):
            await backend.move(accepted.run_id, Timing(expires_at=backend.reads.now() + 9))
        assert await backend.get(accepted.run_id) == before
        moved = await backend.move(accepted.run_id, Timing(delay_sec=100.0, queue_ttl_sec=5.0))
        wait = (known(moved.expires_at) or 0) - (known(moved.scheduled_for) or 0)
        assert wait == pytest.approx(5.0, abs=0.01)


# Where something is away --------------------------------------------------------------------------------


async def test_a_run_whose_time_came_while_nats_was_away_starts_when_it_is_back(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "nats"
    settings = settings_for(tmp_path)
    async with AsyncExitStack() as stack:
        async with server_in(folder) as server:
            settings = replace(settings, nats_url=server.url)
            backend = await stack.enter_async_context(
                open_backend(settings, worker=worker_options(tmp_path))
            )
            await backend.wait_ready(within=60)
            accepted = await backend.submit(timed(delay_sec=1.0))
            due = trio.current_time() + 1.0
        await trio.sleep_until(due + 0.5)
        async with server_in(folder, port=server.port):
            await backend.wait_ready(within=60)
            run = await ended(backend, accepted.run_id)
            assert (run.status, run.attempt) == (RunStatus.COMPLETED, 1)
            await stack.aclose()


async def test_what_a_gateway_left_that_was_killed_before_it_stored_the_job_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody was told that the run was accepted; it does not stay SCHEDULED for a year."""
    from pyoco_server.gateway import reaper
    from pyoco_server.gateway.intake import Intake

    monkeypatch.setattr(reaper, "_FULL_LOOK_SECONDS", 0.1)
    settings: dict[str, float] = {"run_orphan_after_sec": 0.3, "reaper_interval_sec": 0.1}
    async with running(tmp_path, worker=False, **settings) as backend:

        async def killed(*_: object) -> None:
            return None

        good = await backend.submit(timed(delay_sec=600.0))
        with monkeypatch.context() as patched:
            patched.setattr(Intake, "enqueue", killed)
            orphan = await backend.submit(timed(delay_sec=600.0))
        run = await ended(backend, orphan.run_id)
        assert (run.status, run.reason) == (RunStatus.FAILED, "job_lost")
        assert await state(backend, good.run_id) is RunState.SCHEDULED


async def test_a_gateway_that_starts_again_knows_what_waits(tmp_path: Path) -> None:
    async with running(tmp_path, worker=False) as backend:
        settings = backend.settings_with_node()
        async with open_backend(settings, worker=None) as other:
            await other.wait_ready(within=60)
            accepted = await other.submit(timed(delay_sec=1.5, queue_ttl_sec=1.0))
        run = await until(backend, accepted.run_id, lambda s: s.status.terminal)
        assert run.reason == "expired"


def _starts(run: RunSnapshot) -> float:
    assert run.start_time is not None
    return run.start_time


async def test_runs_of_one_instant_start_once_each_and_cancelled_ones_never(tmp_path: Path) -> None:
    worker = worker_options(tmp_path, slots=2)
    async with running(tmp_path, worker=worker) as backend:
        due = backend.reads.now() + 5.0
        accepted = await backend.submit_all([timed(start_at=due)] * 60)
        run_ids = [each.run_id for each in accepted if isinstance(each, Accepted)]
        assert len(run_ids) == 60
        cancelled: set[str] = set()

        async def cancel(run_id: str) -> None:
            await backend.cancel(run_id)
            if backend.reads.now() < due:
                cancelled.add(run_id)

        asked = run_ids[::3]
        async with trio.open_nursery() as nursery:
            for run_id in asked:
                nursery.start_soon(cancel, run_id)
        assert cancelled
        ends = [await ended(backend, run_id) for run_id in run_ids]
        for run in ends:
            if run.run_id in cancelled:
                assert (run.status, run.start_time, run.attempt) == ("CANCELLED", None, 0)
            elif run.run_id not in asked:
                assert (run.status, run.attempt) == ("COMPLETED", 1)
                assert _starts(run) >= due - 0.05
        await empty_queue(backend)
