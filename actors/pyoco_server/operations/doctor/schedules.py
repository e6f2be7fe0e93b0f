"""Checks of schedules: those that nobody sees to, or can, that are never due, or whose runs nobody takes."""

from __future__ import annotations

from collections.abc import Iterator

from pyoco_server.model.schedules.schedule import Schedule, ScheduleState, TickOutcome
from pyoco_server.model.schedules.ticks import NotATiming, next_tick
from pyoco_server.operations.doctor.finding import Finding, Severity
from pyoco_server.operations.doctor.look import Look

# Longer than a gateway takes to make up for a lost wake-up.
_LATE_SECONDS = 30.0


async def check_schedules(look: Look) -> list[Finding]:
    """Look for schedules whose ticks get no runs, or runs that stay."""
    served, going = look.served, [each for each in look.schedules if not each.paused]
    return [finding for each in going for finding in _of(each, served, look.now)]


def _of(schedule: Schedule, served: set[str], now: float) -> Iterator[Finding]:
    where, progress = f"schedule {schedule.schedule_id}", schedule.progress
    show = f"pyoco-client schedule show {schedule.schedule_id}"
    try:
        next_tick(schedule.spec, progress.cursor)
    except NotATiming as error:
        yield Finding(
            check="schedules.times",
            severity=Severity.ERROR,
            what=f"its times cannot be computed on this machine: {error}",
            where=where,
            advice=f"change them: pyoco-client schedule update {schedule.schedule_id}; or give each machine "
            "of a gateway the same time zones and version",
        )
    if progress.wake_at is not None and now - progress.wake_at > _LATE_SECONDS:
        yield Finding(
            check="schedules.late",
            severity=Severity.ERROR,
            what=f"it is due for {now - progress.wake_at:.0f} s, and no gateway has seen to it",
            where=where,
            advice="start a gateway (pyoco-server up), or look at the log of those that run",
        )
    if schedule.state is ScheduleState.ENDED and not progress.counts:
        yield Finding(
            check="schedules.never",
            severity=Severity.WARNING,
            what="it was never due, and never will be",
            where=where,
            advice=f"look at its times, start and end ({show}), or delete it",
        )
    if schedule.state is ScheduleState.ACTIVE and schedule.spec.tag not in served:
        yield Finding(
            check="schedules.no_worker",
            severity=Severity.WARNING,
            what=f"its runs go to the tag {schedule.spec.tag}, which no worker takes",
            where=where,
            advice=f"start one: pyoco-worker --tags {schedule.spec.tag}",
        )
    last = progress.ticks[-1] if progress.ticks else None
    if last is not None and last.outcome is TickOutcome.REFUSED:
        yield Finding(
            check="schedules.refused",
            severity=Severity.ERROR,
            what=f"the run of its last tick cannot be submitted: {last.reason}",
            where=where,
            advice=f"change it: pyoco-client schedule update {schedule.schedule_id}",
        )
