"""Seeing to what is due of schedules, of many in one round.

What was decided is written down before the first run is submitted, and what came of that behind it. Each
step is done for all together, since a thousand schedules of the same second would wait for each other's
round trips otherwise. What JetStream does not take together is done for each by itself, and what fails
for one fails for that one alone. Behind an outage it takes long to find what is due, and to submit it: a
round goes on with what is found, and writes down what is submitted, after some seconds, and the next one
does the rest.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TypeAlias

import trio

from pyoco_server.gateway.schedules.alarm import Alarm
from pyoco_server.gateway.schedules.board import ScheduleBoard
from pyoco_server.gateway.schedules.runs import NotComputed, ScheduleRuns
from pyoco_server.jetstream.errors import BridgeError, Unanswered
from pyoco_server.jetstream.together import for_each
from pyoco_server.kernel import KernelError, Refusal
from pyoco_server.model.errors import NO_THREAD, ModelError
from pyoco_server.model.schedules import rules
from pyoco_server.model.schedules.schedule import Overlap, Schedule, TickRecord
from pyoco_server.model.schedules.ticks import NotATiming
from pyoco_server.store.schedules import ScheduleStore, StoredSchedule
from pyoco_server.store.threads import no_thread_is

Settled: TypeAlias = Callable[[Schedule, list[TickRecord], float], None]
"""Told a schedule, what became of its ticks, and when."""

Outcome: TypeAlias = StoredSchedule | Exception | None
"""A schedule as it is then; None where there is none; or why not all could be done."""

_AT_ONCE = 64
_TRIES = 20
_DECIDE_SECONDS = 5.0
_START_SECONDS = 5.0
# What is due of a longer time is looked for in a thread: one of a minutely crontab and of days takes 0.1 s.
_LONG_SECONDS = 60.0


@dataclass(slots=True, eq=False)
class _Visit:
    """A visit to a schedule, over as many rounds as it takes.

    Attributes:
        key: Which.
        stored: How it is stored, as it was read or written last.
        over: Whether there is nothing more to do.
        outcome: What came of it then.
    """

    key: str
    stored: StoredSchedule | None = None
    over: bool = False
    outcome: Outcome = None

    def end(self, outcome: Outcome) -> None:
        self.over, self.outcome = True, outcome


@dataclass(slots=True, eq=False)
class _Change:
    """What a schedule becomes.

    Attributes:
        visit: Of which.
        before: What it was.
        after: What it is to be.
        done: What became of ticks.
        written: Whether it is.
    """

    visit: _Visit
    before: StoredSchedule
    after: Schedule
    done: Sequence[TickRecord]
    written: bool = False


class _Computing:
    """Finds what is due of the schedules of a round, for some seconds.

    One after the other: several threads would only keep each other, and the loop, from it.

    Attributes:
        now: The moment of the round, in unix seconds.
    """

    def __init__(self, now: float) -> None:
        self.now = now
        self._until = trio.current_time() + _DECIDE_SECONDS
        self._room = trio.CapacityLimiter(1)

    async def due(self, schedule: Schedule) -> rules.Due:
        """What is due of a schedule; a thread that is at it goes on where this is cancelled.

        Raises:
            trio.TooSlowError: There is no more time in this round.
            NotComputed: There is no thread.
        """
        if self.now - schedule.progress.cursor < _LONG_SECONDS:
            return rules.due(schedule, self.now)
        with trio.fail_at(self._until), no_thread_is(NotComputed(NO_THREAD)):
            return await trio.to_thread.run_sync(
                rules.due, schedule, self.now, abandon_on_cancel=True, limiter=self._room
            )


class Rounds:
    """Sees to schedules, and tells ``settled`` what became of their ticks."""

    def __init__(
        self,
        store: ScheduleStore,
        board: ScheduleBoard,
        runs: ScheduleRuns,
        alarm: Alarm,
        settled: Settled,
    ) -> None:
        self._store = store
        self._board = board
        self._runs = runs
        self._alarm = alarm
        self._settled = settled

    async def look(self, key: str, now: float) -> StoredSchedule | None:
        """See to what is due of a schedule at a moment, and to nothing that is due later.

        Returns:
            It as it is then; None where there is none.

        Raises:
            Refusal: Not all could be done; it is to be tried again.
            BridgeError: The same.
            UnreadableSchedule: What is stored is none.
            NotATiming: Its times cannot be computed here.
        """
        outcome = (await self.see_to([key], now=now))[key]
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def see_to(
        self, keys: Iterable[str], *, at_least: float = 0.0, now: float | None = None
    ) -> dict[str, Outcome]:
        """See to what is due of schedules; return for each what `look` would have returned or raised.

        Args:
            keys: Which.
            at_least: A moment that is over by the server's clock, in unix seconds.
            now: Goes by this moment instead of the server's clock, in unix seconds.
        """
        visits = [_Visit(key) for key in keys]
        for _ in range(_TRIES):
            left = [visit for visit in visits if not visit.over]
            if not left:
                break
            try:
                moment = max(await self._store.now(), at_least) if now is None else now
                await self._round(left, moment)
            except BridgeError as error:
                for visit in left:
                    if not visit.over:
                        visit.end(error)
        for visit in visits:
            if not visit.over:
                why = "is written by others all the time, or has very much to start"
                visit.end(Unanswered(f"schedule {visit.key} {why}"))
            if isinstance(visit.outcome, NotATiming) and visit.stored is not None:
                self._board.pass_over(visit.stored)
        return {visit.key: visit.outcome for visit in visits}

    async def _round(self, visits: Sequence[_Visit], now: float) -> None:
        decided: list[_Change] = []
        looked_at: list[_Visit] = []
        computing = _Computing(now)

        async def decide(visit: _Visit) -> None:
            with suppress(trio.TooSlowError):  # it has its turn in the next round
                change = await self._decide(visit, computing)
                looked_at.append(visit)
                if change is not None:
                    decided.append(change)

        await _each(visits, decide)
        await self._write(decided)
        # Of those that lost a race nothing is known any more.
        lost = {change.visit for change in decided if not change.written}
        known = [visit for visit in looked_at if not visit.over and visit not in lost]
        started = await self._start(known, now)
        await self._write(started)
        lost |= {change.visit for change in started if not change.written}
        ended = {
            visit: visit.stored
            for visit in known
            if not visit.over
            and visit not in lost
            and visit.stored is not None
            and not visit.stored.schedule.progress.starting
        }
        await self._alarm.set(*ended.values())
        for visit, stored in ended.items():
            visit.end(stored)

    async def _decide(self, visit: _Visit, computing: _Computing) -> _Change | None:
        """What a schedule becomes by what is due; None where that is nothing else. Raises as `due`."""
        now = computing.now
        visit.stored = stored = await self._store.get(visit.key)
        if stored is None:
            visit.end(None)
            return None
        schedule = stored.schedule
        if schedule.paused or schedule.progress.starting:
            return None
        what = await computing.due(schedule)
        if not (what.ticks or what.missed):
            return None
        alive: list[str] = list(schedule.progress.active)
        if alive and what.ticks and schedule.spec.overlap is not Overlap.ALLOW:
            alive = await self._runs.going_on(alive)
        decision = rules.decide(schedule, what, now, alive=bool(alive))
        if decision.cancel:
            await self._runs.cancel(schedule, alive)
        after = rules.decided(schedule, decision, now, active=alive)
        if after.progress == schedule.progress:
            return None
        return _Change(visit, stored, after, decision.settled)

    async def _start(self, visits: Sequence[_Visit], now: float) -> list[_Change]:
        """Submit runs of the ticks that are to start, for some seconds; return what schedules become by that.

        First is the first tick of each: none waits for all that another schedule has to make up for.
        """
        ticks = [
            (place, visit, visit.stored, tick)
            for visit in visits
            if visit.stored is not None
            for place, tick in enumerate(visit.stored.schedule.progress.starting)
        ]
        if not ticks:
            return []
        ticks.sort(key=lambda each: each[0])
        outcomes = await self._runs.submit(
            [(stored.schedule, tick) for _, _, stored, tick in ticks],
            now=now,
            until=trio.current_time() + _START_SECONDS,
        )
        records: dict[_Visit, list[TickRecord]] = {}
        for (_, visit, _, _), outcome in zip(ticks, outcomes, strict=False):
            if isinstance(outcome, TickRecord):
                records.setdefault(visit, []).append(outcome)
            else:
                visit.end(outcome)
        return [
            _Change(visit, visit.stored, rules.started(visit.stored.schedule, done, now), done)
            for visit, done in records.items()
            if visit.stored is not None
        ]

    async def _write(self, changes: Sequence[_Change]) -> None:
        """Write schedules, but for those that somebody has written since they were read."""
        if len(changes) > 1:
            with suppress(BridgeError):
                stored = await self._store.update_all(
                    [(change.before, change.after) for change in changes]
                )
                for change, each in zip(changes, stored, strict=True):
                    self._note(change, each)
                return
        by_visit = {change.visit: change for change in changes}

        async def write(visit: _Visit) -> None:
            change = by_visit[visit]
            stored = await self._store.update(change.before, change.after)
            if stored is not None:
                self._note(change, stored)

        await _each(list(by_visit), write)

    def _note(self, change: _Change, stored: StoredSchedule) -> None:
        change.written, change.visit.stored = True, stored
        if change.done:
            self._settled(change.after, list(change.done), self._store.bucket.now())


@contextmanager
def _ending(visit: _Visit) -> Iterator[None]:
    """A visit is over where the block fails."""
    try:
        yield
    except (BridgeError, KernelError, ModelError, NotATiming, Refusal) as error:
        visit.end(error)


async def _each(visits: Sequence[_Visit], do: Callable[[_Visit], Awaitable[None]]) -> None:
    """Do something for each; where that fails, its visit is over."""

    async def one(visit: _Visit) -> None:
        with _ending(visit):
            await do(visit)

    await for_each(visits, one, _AT_ONCE)
