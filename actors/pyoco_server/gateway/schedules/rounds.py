"""Seeing to what is due of schedules, of many in one round: each step is done for all of them together.

A thousand schedules of the same second would wait for each other's round trips otherwise. What JetStream does
not take together is done for each by itself, and what fails for one fails for that one alone.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TypeAlias

import trio

from pyoco_server.gateway.schedules.alarm import Alarm
from pyoco_server.gateway.schedules.board import ScheduleBoard
from pyoco_server.gateway.schedules.runs import ScheduleRuns
from pyoco_server.jetstream.errors import BridgeError
from pyoco_server.jetstream.together import for_each
from pyoco_server.kernel import Refusal
from pyoco_server.model.schedules import rules
from pyoco_server.model.schedules.schedule import Overlap, Schedule, TickRecord, UnreadableSchedule
from pyoco_server.store.schedules import ScheduleStore, StoredSchedule

Settled: TypeAlias = Callable[[Schedule, list[TickRecord], float], None]
"""Told a schedule, what became of its ticks, and when."""

Outcome: TypeAlias = StoredSchedule | Exception | None
"""A schedule as it is then; None where there is none; or why not all could be done."""

_AT_ONCE = 64
_TRIES = 20


@dataclass(slots=True, eq=False)
class _Visit:
    """A visit to a schedule, over as many rounds as it takes.

    Attributes:
        key: To which.
        submitted: What became of the ticks that were submitted.
        over: Whether there is nothing more to do.
        outcome: What came of it then.
    """

    key: str
    submitted: dict[int, TickRecord] = field(default_factory=dict)
    over: bool = False
    outcome: Outcome = None

    def end(self, outcome: Outcome) -> None:
        self.over, self.outcome = True, outcome


@dataclass(slots=True, eq=False)
class _ToDo:
    """What is to be done with a schedule.

    Attributes:
        visit: Whose.
        stored: What it was decided on.
        decision: What.
        alive: Those of its runs that go on.
        after: The schedule once it is done.
        written: That, once it is stored.
    """

    visit: _Visit
    stored: StoredSchedule
    decision: rules.Decision
    alive: list[str]
    after: Schedule = field(init=False)
    written: StoredSchedule | None = None


class Rounds:
    """Sees to schedules.

    Args:
        settled: Told what became of ticks.
    """

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

    async def look(self, key: str) -> StoredSchedule | None:
        """See to what is due of a schedule; return it as it is then, None where there is none.

        Raises:
            Refusal: Not all could be done; it is to be tried again.
            BridgeError: The same.
            UnreadableSchedule: What is stored is none.
        """
        outcome = (await self.see_to([key]))[key]
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def see_to(self, keys: Iterable[str], *, at_least: float = 0.0) -> dict[str, Outcome]:
        """See to what is due of schedules; return for each what `look` would have returned or raised.

        Args:
            keys: Which.
            at_least: A moment that is over by the server's clock, in unix seconds.
        """
        visits = [_Visit(key) for key in keys]
        for _ in range(_TRIES):
            left = [visit for visit in visits if not visit.over]
            if not left:
                break
            try:
                await self._round(left, max(await self._store.now(), at_least))
            except BridgeError as error:
                for visit in left:
                    if not visit.over:
                        visit.end(error)
        for visit in visits:
            if not visit.over:
                visit.end(Refusal(f"schedule {visit.key} is written by others all the time"))
        return {visit.key: visit.outcome for visit in visits}

    async def _round(self, visits: Sequence[_Visit], now: float) -> None:
        todo: list[_ToDo] = []

        async def decide(visit: _Visit) -> None:
            found = await self._decide(visit, now)
            if found is not None:
                todo.append(found)

        await _each(visits, decide)
        await self._submit(todo, now)
        await self._write_down([each for each in todo if not each.visit.over], now)

    async def _decide(self, visit: _Visit, now: float) -> _ToDo | None:
        """What is to be done with a schedule; None where that is nothing."""
        stored = await self._store.get(visit.key)
        if stored is None or (stored.schedule.paused and not visit.submitted):
            if stored is not None:
                self._board.note(stored)
            visit.end(stored)
            return None
        schedule = stored.schedule
        what = rules.due(schedule, now)
        if schedule.paused:
            what = rules.Due((), None, schedule.progress.cursor)
        if not (what.ticks or what.missed or visit.submitted):
            await self._alarm.set(stored)
            visit.end(stored)
            return None
        alive: list[str] = list(schedule.progress.active)
        if what.ticks and schedule.spec.overlap is not Overlap.ALLOW:
            alive = await self._runs.going_on(alive)
        decision = rules.decide(schedule, what, now, alive=bool(alive))
        if decision.cancel:
            await self._runs.cancel(schedule, alive)
        return _ToDo(visit, stored, decision, alive)

    async def _submit(self, todo: Sequence[_ToDo], now: float) -> None:
        new = [
            (each, tick)
            for each in todo
            for tick in each.decision.start
            if tick not in each.visit.submitted
        ]
        ticks = [(each.stored.schedule, tick) for each, tick in new]
        records = await self._runs.submit(ticks, now=now) if ticks else []
        for (each, tick), record in zip(new, records, strict=True):
            if isinstance(record, TickRecord):
                each.visit.submitted[tick] = record
            else:
                each.visit.end(record)

    async def _write_down(self, todo: Sequence[_ToDo], now: float) -> None:
        changed: list[_ToDo] = []
        for each in todo:
            # It may take milliseconds to find a next tick.
            await trio.lowlevel.checkpoint()
            each.after = rules.written_down(
                each.stored.schedule,
                each.decision,
                now,
                active=each.alive,
                submitted=each.visit.submitted,
            )
            if each.after.progress == each.stored.schedule.progress:
                each.written = each.stored
            else:
                changed.append(each)
        await self._write(changed)
        written = {each.visit: each.written for each in todo if each.written is not None}
        for each in changed:
            if each.written is not None:
                done = [*each.decision.settled, *each.visit.submitted.values()]
                self._settled(each.after, done, self._store.bucket.now())
        await self._alarm.set(*written.values())
        for visit, stored in written.items():
            visit.end(stored)

    async def _write(self, todo: Sequence[_ToDo]) -> None:
        """Write schedules, but for those that somebody has written since they were read."""
        if len(todo) > 1:
            with suppress(BridgeError):
                all_written = await self._store.update_all(
                    [(each.stored, each.after) for each in todo]
                )
                for each, stored in zip(todo, all_written, strict=True):
                    each.written = stored
                return
        by_visit = {each.visit: each for each in todo}

        async def write(visit: _Visit) -> None:
            each = by_visit[visit]
            each.written = await self._store.update(each.stored, each.after)

        await _each(list(by_visit), write)


async def _each(visits: Sequence[_Visit], do: Callable[[_Visit], Awaitable[None]]) -> None:
    """Do something for each; where that fails, its visit is over."""

    async def one(visit: _Visit) -> None:
        try:
            await do(visit)
        except (BridgeError, Refusal, UnreadableSchedule) as error:
            visit.end(error)

    await for_each(visits, one, _AT_ONCE)
