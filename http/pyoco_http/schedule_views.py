"""Schedules as the API shows them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import islice, takewhile
from typing import Any

from msgspec.structs import asdict

from pyoco_server.api.schedules import (
    CalendarItem,
    PastTick,
    ScheduledTick,
    SchedulePreview,
    ScheduleView,
    TickPage,
    WholeSchedule,
)
from pyoco_server.model.run import RunStatus
from pyoco_server.model.schedules.schedule import Schedule, ScheduleSpec
from pyoco_server.model.schedules.ticks import NotATiming, due_at, local_time, ticks, zone_of

_TICKS_IN_CALENDAR = 100


def schedule_view(schedule: Schedule) -> ScheduleView:
    """A schedule."""
    return ScheduleView(**_fields(schedule))


def whole_schedule(schedule: Schedule) -> WholeSchedule:
    """A schedule, with its history."""
    return WholeSchedule(**_fields(schedule), changes=schedule.changes)


def _fields(schedule: Schedule) -> dict[str, Any]:
    progress = schedule.progress
    problem: str | None = None
    try:
        zone_of(schedule.spec.timezone)
    except NotATiming as error:
        problem = str(error)
    return {
        **asdict(schedule.spec),
        "schedule_id": schedule.schedule_id,
        "version": schedule.version,
        "paused": schedule.paused,
        "state": schedule.state,
        "tenant_id": schedule.tenant_id,
        "api_key_id": schedule.api_key_id,
        "created_at": schedule.created_at,
        "updated_at": schedule.updated_at,
        "next_tick_at": None if schedule.paused else progress.next_tick,
        "next_due_at": None if schedule.paused else progress.next_due_at,
        "waiting": progress.waiting,
        "last_tick": progress.ticks[-1] if progress.ticks else None,
        "counts": progress.counts,
        "problem": problem,
    }


def tick_view(schedule: Schedule, tick: int) -> ScheduledTick:
    """A tick to come; to be computed in a thread."""
    try:
        due = due_at(schedule, tick)
    except NotATiming:  # one that waits is due already
        due = float(tick)
    return ScheduledTick(tick_at=tick, due_at=due, local=_local(tick, schedule.spec.timezone))


def ticks_to_come(schedule: Schedule, after: float, count: int) -> SchedulePreview:
    """The first ticks of a schedule later than a moment; to be computed in a thread."""
    found, problem = _first(schedule.spec, after, count)
    shown = [tick_view(schedule, tick) for tick in found]
    return SchedulePreview(ticks=shown, spec=schedule.spec, problem=problem)


def ticks_page(schedule: Schedule, statuses: Mapping[str, RunStatus]) -> TickPage:
    """The last ticks of a schedule; to be computed in a thread."""
    zone = schedule.spec.timezone
    items = [
        PastTick(
            **asdict(tick),
            local=_local(tick.tick, zone),
            status=None if tick.run_id is None else statuses.get(tick.run_id),
        )
        for tick in reversed(schedule.progress.ticks)
    ]
    waiting = [tick_view(schedule, tick) for tick in schedule.progress.waiting]
    return TickPage(items=items, waiting=waiting)


def calendar_item(schedule: Schedule, begin: float, end: float) -> CalendarItem:
    """What is due of a schedule in a time; to be computed in a thread."""
    spec = schedule.spec
    after = max(schedule.progress.cursor, int(begin))
    found, problem = _first(spec, after, _TICKS_IN_CALENDAR + 1, end)
    shown = found[:_TICKS_IN_CALENDAR]
    return CalendarItem(
        schedule_id=schedule.schedule_id,
        name=spec.name,
        flow_name=spec.flow_name,
        timezone=spec.timezone,
        paused=schedule.paused,
        ticks=[tick_view(schedule, tick) for tick in shown],
        more=len(found) > len(shown),
        problem=problem,
    )


def _first(
    spec: ScheduleSpec, after: float, count: int, until: float = math.inf
) -> tuple[list[int], str | None]:
    """The first ticks later than a moment up to another; or none, and why they cannot be computed."""
    try:
        # None behind the first one that is too late: the next ones may be centuries away.
        in_time = takewhile(lambda tick: tick <= until, ticks(spec, after))
        return list(islice(in_time, count)), None
    except NotATiming as error:
        return [], str(error)


def _local(tick: int, timezone: str) -> str:
    """A tick as clocks of a zone show it; of UTC, where this machine does not know the zone."""
    try:
        return local_time(tick, timezone).isoformat()
    except NotATiming:
        return local_time(tick, "UTC").isoformat()
