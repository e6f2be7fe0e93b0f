"""When schedules are due, and what became of it, over HTTP."""

from __future__ import annotations

from itertools import islice

from quart import Blueprint, request

from pyoco_http.access import Access, access
from pyoco_http.bodies import read_json
from pyoco_http.call import asked
from pyoco_http.operation import described
from pyoco_http.problems import answer_with
from pyoco_http.schedule_bodies import PREVIEWED_SCHEDULE
from pyoco_http.schedule_calls import (
    SCHEDULE_INVALID,
    SCHEDULE_MISSING,
    SCHEDULE_PROBLEMS,
    page_of,
    person,
    schedule_filter,
    wish_of,
)
from pyoco_http.schedule_views import calendar_item, tick_view, ticks_page
from pyoco_server.api import schedules as api
from pyoco_server.backend import Backend
from pyoco_server.gateway.schedules.desk import MAX_PREVIEW
from pyoco_server.model.schedules.schedule import Schedule, read_whole
from pyoco_server.model.schedules.ticks import ticks


def schedule_times_blueprint(backend: Backend) -> Blueprint:
    """Previews, the calendar, and what became of ticks."""
    blueprint = Blueprint("schedule_times", __name__, url_prefix="/schedules")
    answer_with(blueprint, SCHEDULE_PROBLEMS)
    desk = backend.schedules

    @blueprint.post("/preview")
    @access(Access.READ)
    @described(
        "The next ticks of a schedule that is not made yet",
        api.SchedulePreview,
        body=PREVIEWED_SCHEDULE,
        refusals=SCHEDULE_INVALID,
    )
    async def preview() -> api.SchedulePreview:
        body = read_json(await request.body, api.SchedulePreviewBody)
        count = read_whole("count", body.count, 1, MAX_PREVIEW)
        spec, found = await desk.preview(await wish_of(backend, body), count)
        shown = Schedule(schedule_id="preview", spec=spec, progress=desk.nothing_yet)
        return api.SchedulePreview(ticks=[tick_view(shown, tick) for tick in found], spec=spec)

    @blueprint.get("/calendar")
    @access(Access.READ)
    @described("What is due in the next hours, by schedule", api.Calendar, query=api.CalendarQuery)
    async def calendar() -> api.Calendar:
        query = asked(api.CalendarQuery)
        found = [*desk.listed(person().tenant_id, schedule_filter(query))]
        page, cursor = page_of(found, query.limit)
        begin = await desk.now()
        end = begin + query.hours * 3600
        items = await desk.computed(lambda: [calendar_item(item, begin, end) for item in page])
        return api.Calendar(begin=begin, end=end, items=items, next_cursor=cursor)

    @blueprint.get("/<schedule:schedule_id>/next")
    @access(Access.READ)
    @described(
        "The next ticks of a schedule",
        api.SchedulePreview,
        query=api.NextTicksQuery,
        refusals=SCHEDULE_MISSING,
    )
    async def coming(schedule_id: str) -> api.SchedulePreview:
        count = asked(api.NextTicksQuery).count
        schedule = await desk.get(schedule_id, person())
        after = max(schedule.progress.cursor, int(await desk.now()))
        found = await desk.computed(lambda: list(islice(ticks(schedule.spec, after), count)))
        return api.SchedulePreview(
            ticks=[tick_view(schedule, tick) for tick in found], spec=schedule.spec
        )

    @blueprint.get("/<schedule:schedule_id>/ticks")
    @access(Access.READ)
    @described(
        "What became of the last ticks, and of their runs", api.TickPage, refusals=SCHEDULE_MISSING
    )
    async def past(schedule_id: str) -> api.TickPage:
        schedule = await desk.get(schedule_id, person())
        ids = [tick.run_id for tick in schedule.progress.ticks if tick.run_id is not None]
        return ticks_page(schedule, await desk.statuses(ids))

    return blueprint
