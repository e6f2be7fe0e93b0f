"""Schedules as the API shows them."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import Any

from msgspec.structs import asdict

from pyoco_server.api.schedules import (
    CalendarItem,
    PastTick,
    ScheduledTick,
    ScheduleView,
    TickPage,
    WholeSchedule,
)
from pyoco_server.model.run import RunStatus
from pyoco_server.model.schedules.schedule import Schedule
from pyoco_server.model.schedules.ticks import due_at, local_time, ticks

_TICKS_IN_CALENDAR = 100


def schedule_view(schedule: Schedule) -> ScheduleView:
    """A schedule."""
    return ScheduleView(**_fields(schedule))


def whole_schedule(schedule: Schedule) -> WholeSchedule:
    """A schedule, with its history."""
    return WholeSchedule(**_fields(schedule), changes=schedule.changes)


def _fields(schedule: Schedule) -> dict[str, Any]:
    progress = schedule.progress
    following = None if schedule.paused else progress.next_tick
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
        "next_tick_at": following,
        "next_due_at": None if following is None else due_at(schedule, following),
        "waiting": progress.waiting,
        "last_tick": progress.ticks[-1] if progress.ticks else None,
        "counts": progress.counts,
    }


def tick_view(schedule: Schedule, tick: int) -> ScheduledTick:
    """A tick to come."""
    local = local_time(tick, schedule.spec.timezone).isoformat()
    return ScheduledTick(tick_at=tick, due_at=due_at(schedule, tick), local=local)


def ticks_page(schedule: Schedule, statuses: Mapping[str, RunStatus]) -> TickPage:
    """The last ticks of a schedule."""
    zone = schedule.spec.timezone
    items = [
        PastTick(
            **asdict(tick),
            local=local_time(tick.tick, zone).isoformat(),
            status=None if tick.run_id is None else statuses.get(tick.run_id),
        )
        for tick in reversed(schedule.progress.ticks)
    ]
    waiting = [tick_view(schedule, tick) for tick in schedule.progress.waiting]
    return TickPage(items=items, waiting=waiting)


def calendar_item(schedule: Schedule, begin: float, end: float) -> CalendarItem:
    """What is due of a schedule in a time."""
    spec = schedule.spec
    after = max(schedule.progress.cursor, int(begin))
    few = list(islice(ticks(spec, after), _TICKS_IN_CALENDAR + 1))
    found = [tick for tick in few if tick <= end]
    shown = found[:_TICKS_IN_CALENDAR]
    return CalendarItem(
        schedule_id=schedule.schedule_id,
        name=spec.name,
        flow_name=spec.flow_name,
        timezone=spec.timezone,
        paused=schedule.paused,
        ticks=[tick_view(schedule, tick) for tick in shown],
        more=len(found) > len(shown),
    )
