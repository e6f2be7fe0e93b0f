"""Attempts of a run: they fail and are repeated, time out, crash, or are given back by their worker."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import pytest
import trio

from backend.stage import (
    TAG,
    dead_letters,
    empty_queue,
    ended,
    eventually,
    limited,
    new_run,
    queued,
    running,
    started,
    until,
    worker_options,
)
from pyoco_server.backend import open_backend
from pyoco_server.jetstream.keyvalue import KeyValue
from pyoco_server.model import decisions, life
from pyoco_server.model.run import RunSnapshot, RunStatus
from pyoco_server.store.runs import RunStore
from pyoco_server.worker import executor
from pyoco_server.worker.claiming import claim_run


async def test_a_failed_attempt_is_repeated_after_a_wait(tmp_path: Path) -> None:
    async with running(tmp_path) as backend:
        accepted = await backend.submit(
            limited("flaky", good=3, max_attempts=5, retry_backoff_sec=0.5)
        )
        waiting = await until(
            backend, accepted.run_id, lambda s: s.status is RunStatus.PENDING and s.attempt == 2
        )
        assert waiting.next_attempt_at is not None
        assert (waiting.reason, waiting.worker_id) == ("execution_error", None)
        state = await ended(backend, accepted.run_id)
        assert (state.status, state.attempt, state.error) == (RunStatus.COMPLETED, 3, None)
        first, second = state.attempts
        assert (first.attempt, first.worker_id, first.error) == (1, "w1", "not yet")
        assert second.started_at is not None
        assert first.ended_at is not None
        assert second.started_at - first.ended_at >= 0.4
        assert await dead_letters(backend) == []

        await empty_queue(backend)


async def test_what_dead_workers_left_is_looked_for_only_where_an_attempt_was_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[Path] = []
    monkeypatch.setattr(executor, "end_what_dead_workers_left", looked.append)
    async with running(tmp_path, worker=False) as backend:
        runs = RunStore(KeyValue(backend.connection, "pyoco_runs"), max_bytes=0)
        lost = await backend.submit(new_run("quick"))

        def rule(snapshot: RunSnapshot) -> tuple[RunSnapshot | None, None]:
            claimed = life.claim(snapshot, worker_id="x", instance_id="x", slot=0, now=1.0)
            return claimed.snapshot, None

        await runs.change(lost.run_id, rule)
        failing = await backend.submit(limited("flaky", good=2, max_attempts=2))
        settings = backend.settings_with_node()
        async with open_backend(settings, gateway=False, worker=worker_options(tmp_path)):
            for run in (failing, lost):
                end = await ended(backend, run.run_id)
                assert (end.status, end.attempt) == (RunStatus.COMPLETED, 2)
        assert len(looked) == 1


async def test_a_worker_that_was_stopped_behind_its_claim_executes_nothing_of_a_run_of_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    claimed = trio.Event()

    async def stopped_behind_it(runs: RunStore, *args: Any, **options: Any) -> Any:
        found = await claim_run(runs, *args, **options)
        if not claimed.is_set():
            assert found is not None

            def rule(snapshot: RunSnapshot) -> tuple[RunSnapshot | None, None]:
                other = life.claim(snapshot, worker_id="x", instance_id="x", slot=0, now=2.0)
                assert isinstance(other, decisions.Claimed)
                ended = life.finish(
                    other.snapshot, instance_id="x", attempt=2, status=RunStatus.COMPLETED, now=3.0
                )
                return ended.snapshot, None

            await runs.change(found[0].snapshot.run_id, rule)
            claimed.set()
            time.sleep(0.3)  # noqa: ASYNC251 - as a process that is stopped and goes on
        return found

    monkeypatch.setattr(executor, "claim_run", stopped_behind_it)
    async with running(tmp_path, consumer_ack_wait_sec=0.6) as backend:
        run = await backend.submit(new_run("marked", path=str(tmp_path / "mark")))
        with trio.fail_after(60):
            await claimed.wait()
        await empty_queue(backend)
        after = await backend.submit(new_run("quick"))
        assert (await ended(backend, after.run_id)).status is RunStatus.COMPLETED
        end = await backend.get(run.run_id)
        assert (end.status, end.attempt, end.worker_id) == (RunStatus.COMPLETED, 2, "x")
        assert not (tmp_path / "mark").exists()


async def test_the_last_attempt_that_fails_ends_the_run_with_one_dead_letter(
    tmp_path: Path,
) -> None:
    async with running(tmp_path) as backend:
        accepted = await backend.submit(limited("broken", max_attempts=3))
        state = await ended(backend, accepted.run_id)
        assert (state.status, state.attempt, state.reason) == ("FAILED", 3, "execution_error")
        assert [attempt.attempt for attempt in state.attempts] == [1, 2]

        async def told() -> bool:
            return len(await dead_letters(backend)) == 1

        await eventually(told)


async def test_more_attempts_than_deliveries_are_made(tmp_path: Path) -> None:
    async with running(tmp_path, consumer_max_deliver=2, run_orphan_after_sec=0.5) as backend:
        accepted = await backend.submit(limited("flaky", good=6, max_attempts=6))
        state = await ended(backend, accepted.run_id)
        assert (state.status, state.attempt) == (RunStatus.COMPLETED, 6)


async def test_a_run_that_waits_for_its_next_attempt_can_be_cancelled(tmp_path: Path) -> None:
    async with running(tmp_path) as backend:
        run = limited("broken", max_attempts=5, retry_backoff_sec=600.0)
        accepted = await backend.submit(run)
        await until(backend, accepted.run_id, lambda s: s.next_attempt_at is not None)
        await backend.cancel(accepted.run_id)
        state = await ended(backend, accepted.run_id)
        assert (state.status, state.next_attempt_at) == (RunStatus.CANCELLED, None)

        await empty_queue(backend)


async def test_an_attempt_that_takes_too_long_ends_failed(tmp_path: Path) -> None:
    async with running(tmp_path) as backend:
        # A child that is just being started may need all of that time for itself.
        await ended(backend, (await backend.submit(new_run("quick"))).run_id)
        accepted = await backend.submit(limited("slow", seconds=60, timeout_sec=1.5))
        state = await ended(backend, accepted.run_id)
        assert (state.status, state.reason) == (RunStatus.FAILED, "timeout")
        assert "within 1.5 s and was terminated (SIGTERM)" in (state.error or "")
        assert state.tasks == {"slow": "FAILED"}

        async def told() -> bool:
            return [letter["reason"] for letter in await dead_letters(backend)] == ["timeout"]

        await eventually(told)
        after = await ended(backend, (await backend.submit(new_run("quick"))).run_id)
        assert after.status is RunStatus.COMPLETED


async def test_an_attempt_that_timed_out_is_repeated(tmp_path: Path) -> None:
    async with running(tmp_path) as backend:
        run = limited("slow", seconds=60, timeout_sec=0.2, max_attempts=2)
        state = await ended(backend, (await backend.submit(run)).run_id)
        assert (state.attempt, state.reason) == (2, "timeout")
        assert [attempt.reason for attempt in state.attempts] == ["timeout"]


async def test_a_flow_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    async with running(tmp_path) as backend:
        run = limited("stubborn", timeout_sec=2.0)  # enough to begin to ignore it
        state = await ended(backend, (await backend.submit(run)).run_id)
        assert "killed (SIGKILL)" in (state.error or "")
        cancelled = await backend.submit(new_run("stubborn"))
        await started(backend, cancelled.run_id)
    # A worker that stops waits for nobody either; nothing is left running.


async def test_a_crashed_child_is_another_attempt_away_from_success(tmp_path: Path) -> None:
    async with running(tmp_path) as backend:
        accepted = await backend.submit(limited("crash", good=2, max_attempts=2))
        state = await ended(backend, accepted.run_id)
        assert (state.status, state.attempt) == (RunStatus.COMPLETED, 2)
        (crashed,) = state.attempts
        assert crashed.reason == "worker_crashed"
        assert "SIGSEGV" in (crashed.error or "")


async def test_a_worker_that_stops_gives_its_run_back(tmp_path: Path) -> None:
    async with running(tmp_path, worker=False, consumer_ack_wait_sec=60.0) as backend:
        settings = backend.settings_with_node()
        accepted = await backend.submit(new_run("slow", seconds=3))
        first = worker_options(tmp_path, worker_id="first")
        async with open_backend(settings, gateway=False, worker=first):
            await started(backend, accepted.run_id)
        released = await backend.get(accepted.run_id)
        assert (released.status, released.worker_id) == (RunStatus.PENDING, None)
        assert [attempt.reason for attempt in released.attempts] == ["worker_stopped"]
        second = worker_options(tmp_path, worker_id="second")
        began = trio.current_time()
        async with open_backend(settings, gateway=False, worker=second):
            again = await started(backend, accepted.run_id)
            assert (again.worker_id, again.attempt) == ("second", 2)
            # Not after the ack wait of a minute.
            assert trio.current_time() - began < 30
            assert (await ended(backend, accepted.run_id)).status is RunStatus.COMPLETED


async def test_tries_are_counted_over_workers_that_stop(tmp_path: Path) -> None:
    calls = tmp_path / "calls"
    async with running(tmp_path, worker=False) as backend:
        settings = backend.settings_with_node()
        run_id = (await backend.submit(new_run("retried", path=str(calls), seconds=60))).run_id
        for number in (1, 2, 3):
            options = worker_options(tmp_path, worker_id=f"w{number}")
            async with open_backend(settings, gateway=False, worker=options):
                await so_many_lines(calls, number)
        options = worker_options(tmp_path, worker_id="last")
        async with open_backend(settings, gateway=False, worker=options):
            state = await ended(backend, run_id)
        assert (state.status, state.attempt, state.reason) == ("FAILED", 4, "execution_error")
        assert (state.error or "").startswith("no try is left after 3 tries")
        assert count_lines(calls) == 3


async def test_an_attempt_that_failed_is_followed_by_one_with_all_tries(tmp_path: Path) -> None:
    calls = tmp_path / "calls"
    async with running(tmp_path) as backend:
        run = limited("retried", path=str(calls), max_attempts=2)
        state = await ended(backend, (await backend.submit(run)).run_id)
        assert (state.error, state.attempt) == ("it broke", 2)
        assert count_lines(calls) == 6


def count_lines(path: Path) -> int:
    return len(path.read_text().splitlines()) if path.exists() else 0


async def so_many_lines(path: Path, number: int) -> None:
    with trio.fail_after(60):
        while count_lines(path) < number:
            await trio.sleep(0.02)


async def test_a_run_with_one_attempt_ends_when_its_worker_stops(tmp_path: Path) -> None:
    async with running(tmp_path, worker=False) as backend:
        accepted = await backend.submit(limited("slow", seconds=60, max_attempts=1))
        options = worker_options(tmp_path)
        async with open_backend(backend.settings_with_node(), gateway=False, worker=options):
            await started(backend, accepted.run_id)
        state = await backend.get(accepted.run_id)
        assert (state.status, state.reason) == (RunStatus.FAILED, "max_deliveries")

        async def settled() -> bool:
            return await queued(backend) == 0 and len(await dead_letters(backend)) == 1

        await eventually(settled)


async def test_a_worker_may_finish_what_it_began(tmp_path: Path) -> None:
    async with running(tmp_path, worker=False, worker_drain_timeout_sec=math.inf) as backend:
        accepted = await backend.submit(new_run("slow", seconds=1))
        later = await backend.submit(new_run("quick"))
        settings = backend.settings_with_node()
        async with open_backend(settings, gateway=False, worker=worker_options(tmp_path)):
            await started(backend, accepted.run_id)
        state = await backend.get(accepted.run_id)
        assert (state.status, state.attempt) == (RunStatus.COMPLETED, 1)
        assert (await backend.get(later.run_id)).status is RunStatus.PENDING
        assert await queued(backend) == 1

        async def stopped() -> bool:
            record = await backend.worker("w1")
            assert record is not None
            assert record.tags == [TAG]
            return (record.state, record.stop_reason) == ("STOPPED_GRACEFUL", "graceful_shutdown")

        await eventually(stopped)


async def test_the_next_attempt_comes_although_each_delivery_is_the_last(tmp_path: Path) -> None:
    """Each copy of the job that comes too early is replaced by another one, and none gets lost."""
    async with running(tmp_path, consumer_max_deliver=1) as backend:
        accepted = await backend.submit(
            limited("flaky", good=2, max_attempts=2, retry_backoff_sec=1.5)
        )
        state = await ended(backend, accepted.run_id)
        assert (state.status, state.attempt) == (RunStatus.COMPLETED, 2)

        await empty_queue(backend)
