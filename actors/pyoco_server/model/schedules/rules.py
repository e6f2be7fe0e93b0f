"""What becomes of the ticks of a schedule: decided from its record, the time, and whether a run goes on.

Deciding the same again, because whoever did it was killed before it was written down, submits the same runs:
the ids of runs follow from their ticks.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from msgspec.structs import replace

from pyoco_server.model.schedules.schedule import (
    MAX_ACTIVE,
    MAX_CHANGES_KEPT,
    MAX_TICKS_KEPT,
    MAX_WAITING,
    CatchUp,
    Overlap,
    Schedule,
    ScheduleChange,
    ScheduleProgress,
    ScheduleSpec,
    TickOutcome,
    TickRecord,
)
from pyoco_server.model.schedules.ticks import NotATiming, due_at, latest_ticks, next_tick

ON_TIME_SECONDS: Final = 60.0
"""How late a tick may be that is made up for by nothing (`CatchUp.NONE`)."""

# How soon it is looked again whether a run has ended that ticks wait for.
_LOOK_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class Due:
    """What there is to decide.

    Attributes:
        ticks: Ticks that are to have a run, in order; those that waited come first.
        missed: Ticks that have none, if any.
        cursor: All ticks up to here are among these.
    """

    ticks: tuple[int, ...]
    missed: TickRecord | None
    cursor: int


@dataclass(frozen=True, slots=True)
class Decision:
    """What is to be done.

    Attributes:
        start: Ticks to submit the runs of, in order.
        waiting: Ticks that wait.
        settled: Ticks that have no run.
        cancel: Whether what goes on is to be cancelled.
        cursor: All ticks up to here are decided.
    """

    start: tuple[int, ...]
    waiting: tuple[int, ...]
    settled: tuple[TickRecord, ...]
    cancel: bool
    cursor: int


def due(schedule: Schedule, now: float) -> Due:
    """The ticks that are due, by what is to be made up for."""
    spec, progress = schedule.spec, schedule.progress
    waiting = tuple(progress.waiting)
    if progress.next_due_at is not None and now < progress.next_due_at:
        return Due(waiting, None, progress.cursor)
    until = int(now // 1)
    most = spec.catch_up_limit if spec.catch_up is CatchUp.ALL else 1
    # Two more: jitter may hold the last one back, and the last one that is missed is named.
    found, before = latest_ticks(spec, progress.cursor, until, most + 2)
    if found and due_at(schedule, found[-1]) > now:
        until = found.pop() - 1
    if (
        spec.catch_up is CatchUp.NONE
        and found
        and now - due_at(schedule, found[-1]) > ON_TIME_SECONDS
    ):
        most = 0
    kept_from = max(len(found) - most, 0)
    left_out, found = found[:kept_from], found[kept_from:]
    missed = None
    if left_out:
        missed = TickRecord(
            tick=left_out[-1],
            outcome=TickOutcome.MISSED,
            decided_at=now,
            count=before + len(left_out),
        )
    return Due(waiting + tuple(found), missed, max(progress.cursor, until))


def decide(schedule: Schedule, what: Due, now: float, *, alive: bool) -> Decision:
    """What becomes of the ticks that are due.

    Args:
        schedule: The schedule.
        what: What is due.
        now: Unix seconds.
        alive: Whether a run of it goes on.
    """
    ticks = what.ticks
    start: tuple[int, ...] = ()
    waiting: tuple[int, ...] = ()
    dropped: tuple[int, ...] = ()
    reason = ""
    cancel = False
    match schedule.spec.overlap:
        case Overlap.ALLOW:
            start = ticks
        case Overlap.SKIP:
            start, dropped = ((), ticks) if alive else (ticks[:1], ticks[1:])
            reason = "a run of the schedule goes on"
        case Overlap.QUEUE:
            start, rest = ((), ticks) if alive else (ticks[:1], ticks[1:])
            waiting, dropped = rest[:MAX_WAITING], rest[MAX_WAITING:]
            reason = f"{MAX_WAITING} ticks wait already"
        case Overlap.CANCEL_RUNNING:
            last, dropped = ticks[-1:], ticks[:-1]
            start, waiting = ((), last) if alive else (last, ())
            cancel = alive and bool(last)
            reason = "a later tick took its place"
    settled = tuple(
        TickRecord(tick=tick, outcome=TickOutcome.SKIPPED, decided_at=now, reason=reason)
        for tick in dropped
    )
    if what.missed is not None:
        settled = (what.missed, *settled)
    return Decision(start, waiting, settled, cancel, what.cursor)


def decided(
    schedule: Schedule, decision: Decision, now: float, *, active: Sequence[str]
) -> Schedule:
    """The record of what was decided; it says which ticks are to be submitted before any of them is.

    Who is killed in between leaves no run behind that the schedule knows nothing of: ticks that are due by
    then change nothing in it.

    Args:
        schedule: The record that was decided on.
        decision: The decision.
        now: Unix seconds.
        active: Which of its runs go on.
    """
    moved = replace(
        schedule.progress,
        cursor=decision.cursor,
        waiting=list(decision.waiting),
        starting=list(decision.start),
        active=list(active),
    )
    return aimed(with_records(replace(schedule, progress=moved), decision.settled), now)


def started(schedule: Schedule, records: Sequence[TickRecord], now: float) -> Schedule:
    """The record once what was to be submitted is, or some of it.

    Args:
        schedule: The record that says what is to be submitted.
        records: What became of so much of that.
        now: Unix seconds.
    """
    runs = [record.run_id for record in records if record.run_id is not None]
    active = [*schedule.progress.active, *runs][-MAX_ACTIVE:]
    done = {record.tick for record in records}
    starting = [tick for tick in schedule.progress.starting if tick not in done]
    moved = replace(schedule.progress, starting=starting, active=active)
    after = with_records(replace(schedule, progress=moved), records)
    return _awaiting(after, now)


def with_records(
    schedule: Schedule, records: Iterable[TickRecord], *, counted: bool = True
) -> Schedule:
    """The schedule with what became of further ticks; what was triggered is not counted."""
    new = sorted(records, key=lambda record: record.tick)
    if not new:
        return schedule
    counts = dict(schedule.progress.counts)
    for record in new if counted else ():
        counts[record.outcome] = counts.get(record.outcome, 0) + record.count
    ticks = [*schedule.progress.ticks, *new][-MAX_TICKS_KEPT:]
    return replace(schedule, progress=replace(schedule.progress, ticks=ticks, counts=counts))


def aimed(schedule: Schedule, now: float) -> Schedule:
    """The schedule with its next tick, and when it is to be looked at next; a paused one has neither."""
    following = None if schedule.paused else next_tick(schedule.spec, schedule.progress.cursor)
    due = None if following is None else due_at(schedule, following)
    progress = replace(schedule.progress, next_tick=following, next_due_at=due)
    return _awaiting(replace(schedule, progress=progress), now)


def _awaiting(schedule: Schedule, now: float) -> Schedule:
    progress = schedule.progress
    wake_at = progress.next_due_at
    if progress.waiting:
        wake_at = min(now + _LOOK_SECONDS, wake_at or now + _LOOK_SECONDS)
    if schedule.paused:
        wake_at = None
    if progress.starting:
        wake_at = now
    return replace(schedule, progress=replace(progress, wake_at=wake_at))


def made(schedule: Schedule, now: float, by: str | None) -> Schedule:
    """A schedule that was just made: nothing before now is due."""
    progress = ScheduleProgress(cursor=int(now // 1))
    return changed(replace(schedule, version=0, progress=progress), now, "create", by)


def changed(
    schedule: Schedule,
    now: float,
    action: str,
    by: str | None,
    *,
    fields: Sequence[str] = (),
) -> Schedule:
    """The schedule with a change by people written into its history, and looked at anew."""
    version = schedule.version + 1
    change = ScheduleChange(
        changed_at=now, action=action, changed_by=by, fields=list(fields), version=version
    )
    changes = [*schedule.changes, change][-MAX_CHANGES_KEPT:]
    return aimed(replace(schedule, version=version, changes=changes, updated_at=now), now)


def paused(schedule: Schedule, now: float) -> Schedule:
    """The schedule, paused: what waits has no run, and what is due from now on has none."""
    dropped = [
        TickRecord(
            tick=tick, outcome=TickOutcome.SKIPPED, decided_at=now, reason="the schedule was paused"
        )
        for tick in schedule.progress.waiting
    ]
    emptied = replace(schedule.progress, waiting=[])
    return with_records(replace(schedule, paused=True, progress=emptied), dropped)


def from_now_on(schedule: Schedule, now: float, spec: ScheduleSpec | None = None) -> Schedule:
    """The schedule with nothing due before now, as after a pause or, with other times, a change of them.

    A tick that its jitter holds back is still to come: it goes by the other times, or is told as skipped
    where they do not have it.
    """
    spec, until = spec or schedule.spec, int(now // 1)
    after = replace(schedule, spec=spec)
    held_back = _held_back(schedule, now)
    if held_back is not None:
        if latest_ticks(spec, held_back - 1, now, 1) == ([held_back], 0):
            until = held_back - 1
        else:
            reason = "the times of the schedule were changed before it was due"
            outcome = TickOutcome.SKIPPED
            skipped = TickRecord(tick=held_back, outcome=outcome, decided_at=now, reason=reason)
            after = with_records(after, [skipped])
    cursor = max(schedule.progress.cursor, until)
    return replace(after, progress=replace(after.progress, cursor=cursor))


def _held_back(schedule: Schedule, now: float) -> int | None:
    """The tick that has passed and that jitter holds back, if any; none where ticks cannot be computed."""
    begin = max(schedule.progress.cursor, int(now - schedule.spec.jitter_sec) - 1)
    try:
        found, _ = latest_ticks(schedule.spec, begin, now, 1)
        return found[0] if found and due_at(schedule, found[0]) > now else None
    except NotATiming:
        return None
