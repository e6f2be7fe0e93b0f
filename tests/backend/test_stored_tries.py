"""A try of a task that may be tried again begins once it is stored; what is in the way of that."""

from __future__ import annotations

import itertools
import math
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import pytest
import trio
from msgspec.structs import replace
from trio.testing import MockClock, wait_all_tasks_blocked

from pyoco_server.jetstream.errors import Unanswered
from pyoco_server.model import life
from pyoco_server.model.job import Job
from pyoco_server.model.run import (
    MAX_TRIED,
    RunStatus,
    SnapshotTooLarge,
    TaskState,
    TryRecord,
)
from pyoco_server.settings import Settings
from pyoco_server.store.runs import StoredRun
from pyoco_server.worker.attempt import Attempt
from pyoco_server.worker.claiming import Claimant
from pyoco_server.worker.executor import Executor
from pyoco_server.worker.recorder import keep

FIRST = (TryRecord(number=1, started_at=1.0),)
LARGE = SnapshotTooLarge(2, 1, {})


@dataclass
class Runs:
    """A store that fails as often as told, and then stores."""

    failures: Iterable[Exception] = ()
    writes: int = 0

    def now(self) -> float:
        return 100.0 + self.writes

    async def change(self, _run_id: str, rule: Any, *, known: StoredRun) -> tuple[StoredRun, Any]:
        await trio.lowlevel.checkpoint()
        self.failures = iter(self.failures)
        if (failure := next(self.failures, None)) is not None:
            raise failure
        self.writes += 1
        snapshot, decision = rule(known.snapshot)
        return StoredRun(snapshot, self.writes), decision


@dataclass
class Connection:
    epoch: int = 1

    async def changed(self) -> None:
        await trio.sleep_forever()


@dataclass
class Delivery:
    shown: int = field(default=0)

    async def in_progress(self) -> None:
        self.shown += 1


def attempt_with(runs: Runs, **fields: Any) -> Attempt:
    job = Job(run_id="r", flow_name="f", submitted_at=10.0)
    claim = life.claim(life.pending(job), worker_id="w", instance_id="i", slot=0, now=20.0)
    stored = StoredRun(replace(claim.snapshot, **fields), 1)
    return Attempt(cast(Any, runs), job, cast(Any, Delivery()), stored, max_backoff=1.0)


@asynccontextmanager
async def kept(attempt: Attempt) -> AsyncIterator[list[str]]:
    """What is told to begin while the attempt is kept."""
    begun: list[str] = []
    attempt.on_try_stored = begun.append
    async with trio.open_nursery() as nursery:
        settings = Settings(run_heartbeat_interval_sec=60.0)
        nursery.start_soon(keep, attempt, settings, cast(Any, Connection()))
        yield begun
        attempt.close()
        nursery.cancel_scope.cancel()


async def until(condition: Callable[[], object], seconds: float = math.inf) -> None:
    with trio.fail_after(5), trio.move_on_after(seconds):
        while not condition():
            await trio.sleep(0.005)


async def test_nothing_is_done_for_an_attempt_that_is_over_while_its_slot_is_made_ready() -> None:
    """What was urgent last stays so."""
    stores = SimpleNamespace(runs=None, queue=None, artifacts=None)
    nothing = cast(Any, None)
    claimant = Claimant("w", "i", 0)
    executor = Executor(
        *(Settings(), claimant, nothing, nothing, cast(Any, stores), nothing),
        settler=nothing,
        events=nothing,
    )
    executor.attempt = attempt_with(Runs())
    executor.attempt.hurry()
    executor.attempt.close()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(executor.keep)
        with trio.fail_after(10):
            await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("failures", [0, 3])
async def test_it_begins_once_it_is_stored(failures: int, autojump_clock: MockClock) -> None:
    runs = Runs(Unanswered("not now") for _ in range(failures))
    attempt = attempt_with(runs)
    async with kept(attempt) as begun:
        began = trio.current_time()
        attempt.note_tries("a", FIRST, begins=True)
        await until(lambda: begun)
        assert failures or trio.current_time() - began < 0.05
        assert attempt.stored.snapshot.tries_begun == {"a": list(FIRST)}
        assert (begun, attempt.tries_waiting) == (["a"], set())
        attempt.note_tries("a", (), begins=False)
        await until(lambda: not attempt.stored.snapshot.tries_begun)
        assert (runs.writes, begun) == (2, ["a"])


async def test_it_does_not_begin_where_the_run_is_cancelled() -> None:
    attempt = attempt_with(Runs(), status=RunStatus.CANCELLING)
    async with kept(attempt) as begun:
        attempt.note_tries("a", FIRST, begins=True)
        await until(lambda: attempt.cancel_asked)
        await until(lambda: begun, 0.2)
        assert not begun


async def test_it_does_not_begin_where_another_attempt_has_the_run() -> None:
    attempt = attempt_with(Runs())
    attempt.stored = StoredRun(replace(attempt.claim, attempt=2), 2)
    async with kept(attempt) as begun:
        attempt.note_tries("a", FIRST, begins=True)
        await until(lambda: attempt.lost)
        assert not begun


@pytest.mark.parametrize("always", [False, True])
async def test_tasks_give_way_to_it_in_a_snapshot_that_is_too_large(always: bool) -> None:
    attempt = attempt_with(Runs(itertools.repeat(LARGE) if always else [LARGE]))
    async with kept(attempt) as begun:
        attempt.note({"a": TaskState.RUNNING}, {})
        attempt.note_tries("a", FIRST, begins=True)
        await until(lambda: begun)
        assert begun == ["a"]
        assert attempt.tries_begun == ({} if always else {"a": list(FIRST)})


def test_tries_of_so_many_are_kept() -> None:
    attempt = attempt_with(Runs())
    for number in range(MAX_TRIED + 5):
        attempt.note_tries(f"a repeat[{number}]", FIRST, begins=False)
    attempt.note_tries("a repeat[5]", FIRST, begins=True)
    attempt.note_tries("b", FIRST, begins=False)
    assert len(attempt.tries_begun) == MAX_TRIED
    assert "a repeat[5]" in attempt.tries_begun
    assert "a repeat[6]" not in attempt.tries_begun
