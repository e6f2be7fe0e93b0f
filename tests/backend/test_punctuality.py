"""Runs that may not start any more, and runs that are late."""

from __future__ import annotations

from contextlib import aclosing
from pathlib import Path

import pytest
import trio

from backend.stage import (
    TAG,
    dead_letters,
    deliver,
    empty_queue,
    ended,
    eventually,
    new_run,
    queued,
    running,
    until,
    worker_options,
)
from backend.test_delays import held_back, state, timed
from backend.test_waiting_runs import Claims
from pyoco_server.backend import Backend, open_backend
from pyoco_server.gateway import dead_letter_desk
from pyoco_server.gateway.new_run import Accepted, Person
from pyoco_server.gateway.read_model.filters import RunFilter
from pyoco_server.gateway.timekeeper import Timekeeper
from pyoco_server.gateway.waiting_runs import RunHasStarted
from pyoco_server.jetstream.inventory import stream_info
from pyoco_server.jetstream.resources import ensure_consumer
from pyoco_server.model import decisions, life
from pyoco_server.model.event import RunLate, StateChanged
from pyoco_server.model.job import decode_job
from pyoco_server.model.run import Late, RunSnapshot, RunState, RunStatus, known
from pyoco_server.model.timing import Timing
from pyoco_server.store.dead_letters import DeadLetterStore


async def no_time(_: Timekeeper) -> None:
    """A gateway that keeps no time, as one that is away."""
    await trio.sleep_forever()


# Expiry ----------------------------------------------------------------------------------------------


async def test_a_run_that_was_not_started_in_time_ends_by_itself(tmp_path: Path) -> None:
    async with running(tmp_path, worker=False) as backend:
        accepted = await backend.submit(timed(queue_ttl_sec=1.0))
        run = await ended(backend, accepted.run_id)
        assert (run.status, run.reason) == (RunStatus.FAILED, "expired")
        assert run.end_time is not None
        assert 0 <= run.end_time - (known(run.expires_at) or 0) < 30
        assert await state(backend, accepted.run_id) is RunState.EXPIRED
        await empty_queue(backend)
        work = await stream_info(backend.connection, "PYOCO_WORK")
        assert work is not None
        assert work.state.last_seq == 1  # its job had been there
        (letter,) = await dead_letters(backend)
        assert (letter["reason"], letter["run_id"]) == ("expired", accepted.run_id)
        with pytest.raises(RunHasStarted, match="EXPIRED"):
            await backend.move(accepted.run_id, Timing(queue_ttl_sec=60.0))


async def test_a_run_that_expired_at_the_beginning_of_time_ends_as_well(tmp_path: Path) -> None:
    async with running(tmp_path, worker=False) as backend:
        accepted = await backend.submit(timed(expires_at=0.0))
        assert (await ended(backend, accepted.run_id)).reason == "expired"


@pytest.mark.parametrize("late", [False, True])
async def test_a_clock_that_is_put_back_while_a_run_is_looked_at_hides_no_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, late: bool
) -> None:
    real = Timekeeper._see_to_one

    async def put_back(keeper: Timekeeper, *given: object) -> object:
        keeper._runs.now = lambda: 0.0  # type: ignore[method-assign]
        try:
            return await real(keeper, *given)  # type: ignore[arg-type]
        finally:
            del keeper._runs.now

    monkeypatch.setattr(Timekeeper, "_see_to_one", put_back)
    async with running(tmp_path, worker=False) as backend:
        if late:
            accepted = await backend.submit(timed(expected_start_within_sec=0.2))
            await until(backend, accepted.run_id, lambda run: known(run.late) == Late(start=True))
        else:
            accepted = await backend.submit(timed(queue_ttl_sec=0.2))
            assert (await ended(backend, accepted.run_id)).reason == "expired"


async def test_a_run_that_is_held_back_expires_as_well(tmp_path: Path) -> None:
    async with running(tmp_path, worker=False) as backend:
        accepted = await backend.submit(timed(delay_sec=0.4, queue_ttl_sec=0.4))
        assert (await ended(backend, accepted.run_id)).reason == "expired"
        await empty_queue(backend)
        assert await held_back(backend) == frozenset()


async def test_a_run_that_has_started_in_time_runs_on(tmp_path: Path) -> None:
    async with running(tmp_path) as backend:
        run = timed("slow", queue_ttl_sec=10.0)
        run.params["seconds"] = 0.3
        accepted = await backend.submit(run)
        await until(backend, accepted.run_id, lambda s: s.status is RunStatus.RUNNING)
        # Neither may what waits for its next attempt expire.
        flaky = timed("flaky", queue_ttl_sec=10.0)
        assert (await ended(backend, accepted.run_id)).status is RunStatus.COMPLETED
        await backend.submit(flaky)


def test_a_retry_does_not_expire() -> None:
    run = RunSnapshot(run_id="r", flow_name="f", status=RunStatus.PENDING, expires_at=50.0)

    def claim(snapshot: RunSnapshot, now: float) -> decisions.Claim:
        return life.claim(snapshot, worker_id="w", instance_id="i", slot=0, now=now)

    first = claim(run, 49.9)
    assert isinstance(first, decisions.Claimed)
    again = life.release(first.snapshot, instance_id="i", attempt=1, now=60.0)
    assert isinstance(again, decisions.RetryLater)
    assert isinstance(claim(again.snapshot, 70.0), decisions.Claimed)
    late = claim(run, 50.0)
    assert isinstance(late, decisions.Expired)
    assert (late.snapshot.status, late.snapshot.reason) == (RunStatus.FAILED, "expired")
    assert (late.snapshot.attempt, late.snapshot.start_time) == (0, None)


async def test_no_worker_starts_what_has_expired(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No gateway is there to end it: the worker that meets it does."""
    monkeypatch.setattr(Timekeeper, "keep", no_time)
    async with running(tmp_path, worker=False) as backend:
        accepted = await backend.submit(timed(queue_ttl_sec=0.2))
        await trio.sleep(0.3)
        assert (await backend.get(accepted.run_id)).status is RunStatus.PENDING
        async with open_backend(
            backend.settings_with_node(), gateway=False, worker=worker_options(tmp_path)
        ):
            run = await ended(backend, accepted.run_id)
            assert (run.status, run.reason) == (RunStatus.FAILED, "expired")
            assert (run.start_time, run.attempt) == (None, 0)
            await empty_queue(backend)
        (letter,) = await dead_letters(backend)
        assert letter["reason"] == "expired"


@pytest.mark.parametrize("claims_first", [False, True])
async def test_an_expiry_in_the_moment_of_a_claim(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, claims_first: bool
) -> None:
    """Both read the run as it waits; whoever writes first has it, and the other one finds out."""
    reached, go_on = trio.Event(), trio.Event()
    real = Timekeeper._see_to_one

    async with running(tmp_path, worker=False) as backend:
        await ensure_consumer(backend.connection, backend.settings, TAG)
        keeper_runs = backend._runs.replace

        async def held(keeper: Timekeeper, *given: object) -> object:
            keeper._undertaker._runs = slow  # type: ignore[assignment]
            return await real(keeper, *given)  # type: ignore[arg-type]

        class Slow:
            """What the undertaker writes with: it has read, and waits."""

            def __getattr__(self, name: str) -> object:
                return getattr(backend._runs, name)

            async def replace(self, *given: object) -> object:
                reached.set()
                await go_on.wait()
                return await keeper_runs(*given)  # type: ignore[arg-type]

        slow, delivered = Slow(), trio.Event()

        async def behind_the_delivery(keeper: Timekeeper, *given: object) -> object:
            await delivered.wait()
            return await real(keeper, *given)  # type: ignore[arg-type]

        see_to_one = held if claims_first else behind_the_delivery
        monkeypatch.setattr(Timekeeper, "_see_to_one", see_to_one)
        accepted = await backend.submit(timed(queue_ttl_sec=0.5))
        delivery = await deliver(backend)
        delivered.set()
        worker = Claims(backend, decode_job(delivery.data))
        if claims_first:
            # By a worker whose clock is a little behind.
            await reached.wait()
            monkeypatch.setattr(worker.runs, "now", lambda: 0.0)
            assert isinstance(await worker.claim("a", delivery), decisions.Claimed)
            go_on.set()
            await trio.sleep(0.2)
            run = await backend.get(accepted.run_id)
            assert (run.status, run.attempt) == (RunStatus.RUNNING, 1)
            assert await dead_letters(backend) == []
        else:
            await ended(backend, accepted.run_id)
            assert isinstance(await worker.claim("a", delivery), decisions.AlreadyTerminal)


async def test_an_expired_run_is_repeated_when_somebody_asks_for_it(tmp_path: Path) -> None:
    async with running(tmp_path, worker=False) as backend:
        accepted = await backend.submit(
            timed(queue_ttl_sec=0.2, expected_end_within_sec=50.0),
        )
        await ended(backend, accepted.run_id)
        await empty_queue(backend)
        again = await backend.dead_letters.retry(
            accepted.run_id, Person(), timing=Timing(delay_sec=60.0)
        )
        run = await backend.get(again.run_id)
        assert again.scheduled_for == known(run.scheduled_for)
        assert (known(run.expires_at), known(run.expected_end_within_sec)) == (None, 50.0)


async def test_a_retry_waits_for_no_letter_that_is_hard_to_find(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(*_: object, **__: object) -> None:
        await trio.sleep_forever()

    async with running(tmp_path, worker=False) as backend:
        accepted = await backend.submit(timed(queue_ttl_sec=0.2))
        await ended(backend, accepted.run_id)
        monkeypatch.setattr(DeadLetterStore, "page", never)
        monkeypatch.setattr(dead_letter_desk, "_CLEARING_SECONDS", 0.1)
        with trio.fail_after(30):
            again = await backend.dead_letters.retry(accepted.run_id, Person())
        assert (await backend.get(again.run_id)).retry_of == accepted.run_id


async def test_many_expire_at_once(tmp_path: Path) -> None:
    async with running(tmp_path, worker=False) as backend:
        now = backend.reads.now()
        runs = [timed(expires_at=now + 2.0)] * 100 + [new_run("quick")] * 5
        accepted = await backend.submit_all(runs)
        ids = [each.run_id for each in accepted if isinstance(each, Accepted)]
        for run_id in ids[:100]:
            assert (await ended(backend, run_id)).reason == "expired"

        async def others() -> bool:
            return await queued(backend) == 5

        await eventually(others)
        assert len(await dead_letters(backend)) == 100
        counts = await backend.reads.count_runs(RunFilter())
        assert counts.counts == {"EXPIRED": 100, "PENDING": 5}


# Lateness --------------------------------------------------------------------------------------------


async def events_of(backend: Backend, run_id: str) -> list[RunLate | StateChanged]:
    async with aclosing(backend.events.stored(run_id, ended=False)) as items:
        events = [item.event async for item in items if hasattr(item, "event")]
    return [event for event in events if isinstance(event, RunLate | StateChanged)]


async def test_a_run_that_waits_too_long_is_late(tmp_path: Path) -> None:
    async with running(tmp_path, worker=False) as backend:
        accepted = await backend.submit(timed(expected_start_within_sec=0.3))
        on_time = await backend.submit(timed(expected_start_within_sec=60.0))
        run = await until(backend, accepted.run_id, lambda s: known(s.late) is not None)
        assert (run.status, known(run.late)) == (RunStatus.PENDING, Late(start=True))
        page = await backend.reads.list_runs(RunFilter(late=True), None, 10)
        assert [row.run_id for row in page.rows] == [accepted.run_id]
        totals = await backend.reads.totals(None)
        assert totals.late == {"start": 1, "end": 0}
        async with open_backend(
            backend.settings_with_node(), gateway=False, worker=worker_options(tmp_path)
        ):
            done = await ended(backend, accepted.run_id)
            assert (done.status, known(done.late)) == (RunStatus.COMPLETED, Late(start=True))
            assert known((await ended(backend, on_time.run_id)).late) is None
        first, late, *rest = await events_of(backend, accepted.run_id)
        assert isinstance(first, StateChanged)
        assert (first.status, first.at) == (RunStatus.PENDING, run.submitted_at)
        assert isinstance(late, RunLate)
        assert late.what == "start"
        assert late.expected_at == pytest.approx((run.submitted_at or 0) + 0.3)
        assert all(isinstance(event, StateChanged) for event in rest)
        assert (await backend.reads.totals(None)).late == {"start": 0, "end": 0}


async def test_a_run_that_takes_too_long_is_late_while_it_runs(tmp_path: Path) -> None:
    async with running(tmp_path) as backend:
        slow = timed("slow", expected_start_within_sec=30.0, expected_end_within_sec=1.0)
        slow.params["seconds"] = 3
        accepted = await backend.submit(slow)
        await until(
            backend,
            accepted.run_id,
            lambda s: s.status is RunStatus.RUNNING and known(s.late) == Late(end=True),
        )
        done = await ended(backend, accepted.run_id)
        assert (done.status, known(done.late)) == (RunStatus.COMPLETED, Late(end=True))
        assert done.attempt == 1


async def test_what_was_late_while_no_gateway_was_there_is_marked_when_it_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Timekeeper, "keep", no_time)
    async with running(tmp_path, worker=False) as backend:
        run = timed(expected_start_within_sec=0.05, expected_end_within_sec=0.1)
        accepted = await backend.submit(run)
        await trio.sleep(0.2)
        async with open_backend(
            backend.settings_with_node(), gateway=False, worker=worker_options(tmp_path)
        ):
            done = await ended(backend, accepted.run_id)
        assert known(done.late) == Late(start=True, end=True)


async def test_a_run_that_starts_later_is_late_from_then_on(tmp_path: Path) -> None:
    async with running(tmp_path) as backend:
        run = timed(delay_sec=2.5, expected_start_within_sec=2.4, expected_end_within_sec=20.0)
        accepted = await backend.submit(run)
        done = await ended(backend, accepted.run_id)
        assert (done.status, known(done.late)) == (RunStatus.COMPLETED, None)
