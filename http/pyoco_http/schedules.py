"""Schedules over HTTP: made, changed and looked at; when they are due; paused, run now and for the past."""

from __future__ import annotations

import uuid
from typing import Final

from quart import Blueprint, Response, request

from pyoco_http.access import Access, access, person
from pyoco_http.bodies import read_body, read_nothing
from pyoco_http.call import asked, json_body
from pyoco_http.operation import IDEMPOTENCY_KEY, described
from pyoco_http.problems import answer_with
from pyoco_http.schedule_calls import (
    SCHEDULE_CONFLICT,
    SCHEDULE_INVALID,
    SCHEDULE_MISSING,
    SCHEDULE_PROBLEMS,
    page_of,
    schedule_filter,
    version_of,
    wish_of,
)
from pyoco_http.schedule_views import (
    calendar_item,
    schedule_view,
    tick_view,
    ticks_page,
    ticks_to_come,
    whole_schedule,
)
from pyoco_http.submissions import key_of_call, replayed
from pyoco_server.api import schedules as api
from pyoco_server.backend import Backend
from pyoco_server.gateway.schedules.asked import MAX_BACKFILL
from pyoco_server.gateway.schedules.desk import MAX_PREVIEW
from pyoco_server.gateway.schedules.records import ScheduleNotFound
from pyoco_server.model.schedules.reading import read_moment, read_whole

_NOT_COMPUTED: Final = {409: "its times cannot be computed here"}
_TOO_LARGE: Final = {413: "the schedule, or its runs, are too large"}


def schedules_blueprint(backend: Backend) -> Blueprint:
    """`/schedules` and `/schedules/{schedule_id}`."""
    blueprint = Blueprint("schedules", __name__, url_prefix="/schedules")
    answer_with(blueprint, SCHEDULE_PROBLEMS)
    desk = backend.schedules

    @blueprint.get("")
    @access(Access.READ)
    @described("List schedules, by id", api.SchedulePage, query=api.SchedulesQuery)
    async def schedules() -> api.SchedulePage:
        query = asked(api.SchedulesQuery)
        found = [*desk.listed(person().tenant_id, schedule_filter(query))]
        page, cursor = page_of(found, query.cursor, query.limit)
        items = [schedule_view(item) for item in page]
        return api.SchedulePage(items=items, next_cursor=cursor, total=len(found))

    @blueprint.post("")
    @access(Access.SUBMIT)
    @described(
        "Make a schedule",
        api.ScheduleView,
        body=api.NewSchedule,
        refusals=SCHEDULE_CONFLICT | SCHEDULE_INVALID | _TOO_LARGE,
        doc="Nothing before now is due. Its runs carry its `schedule_id` and their `scheduled_at`.",
    )
    async def create() -> api.ScheduleView:
        body = await read_body(api.NewSchedule)
        schedule_id = f"s-{uuid.uuid4().hex[:12]}" if body.schedule_id is None else body.schedule_id
        return schedule_view(await desk.create(schedule_id, await wish_of(backend, body), person()))

    @blueprint.get("/<schedule:schedule_id>")
    @access(Access.READ)
    @described("A schedule, with who has changed it", api.WholeSchedule, refusals=SCHEDULE_MISSING)
    async def get(schedule_id: str) -> api.WholeSchedule:
        return whole_schedule(await desk.get(schedule_id, person()))

    @blueprint.put("/<schedule:schedule_id>")
    @access(Access.SUBMIT)
    @described(
        "Make a schedule, or make it another one",
        api.WholeSchedule,
        body=api.ScheduleReplacement,
        refusals=SCHEDULE_MISSING | SCHEDULE_CONFLICT | SCHEDULE_INVALID | _TOO_LARGE,
        doc="Where times change, ticks go by the new ones from now on.",
    )
    async def put(schedule_id: str) -> api.WholeSchedule:
        body = await read_body(api.ScheduleReplacement)
        wanted, version = await wish_of(backend, body), version_of(body)
        try:
            stored = await desk.replace(schedule_id, wanted, person(), version=version)
        except ScheduleNotFound:
            if version is not None:
                raise
            stored = await desk.create(schedule_id, wanted, person())
        return whole_schedule(stored)

    @blueprint.patch("/<schedule:schedule_id>")
    @access(Access.SUBMIT)
    @described(
        "Change some fields of a schedule",
        api.WholeSchedule,
        body=api.ScheduleUpdate,
        refusals=SCHEDULE_MISSING | SCHEDULE_CONFLICT | SCHEDULE_INVALID | _TOO_LARGE,
    )
    async def patch(schedule_id: str) -> api.WholeSchedule:
        body = await read_body(api.ScheduleUpdate)
        wanted = await wish_of(backend, body)
        return whole_schedule(
            await desk.patch(schedule_id, wanted, person(), version=version_of(body))
        )

    @blueprint.delete("/<schedule:schedule_id>")
    @access(Access.SUBMIT)
    @described("Delete a schedule; its runs stay", api.ScheduleDeleted, refusals=SCHEDULE_MISSING)
    async def delete(schedule_id: str) -> api.ScheduleDeleted:
        read_nothing(await request.body)
        await desk.delete(schedule_id, person())
        return api.ScheduleDeleted(schedule_id=schedule_id)

    return blueprint


def schedule_actions_blueprint(backend: Backend) -> Blueprint:
    """`POST` below `/schedules/{schedule_id}`."""
    blueprint = Blueprint("schedule_actions", __name__, url_prefix="/schedules")
    answer_with(blueprint, SCHEDULE_PROBLEMS)
    desk = backend.schedules

    @blueprint.post("/<schedule:schedule_id>/pause")
    @access(Access.SUBMIT)
    @described("Let no tick have a run", api.WholeSchedule, refusals=SCHEDULE_MISSING)
    async def pause(schedule_id: str) -> api.WholeSchedule:
        read_nothing(await request.body)
        return whole_schedule(await desk.pause(schedule_id, person()))

    @blueprint.post("/<schedule:schedule_id>/resume")
    @access(Access.SUBMIT)
    @described(
        "Go on with the ticks from now on",
        api.WholeSchedule,
        refusals=SCHEDULE_MISSING | _NOT_COMPUTED,
    )
    async def resume(schedule_id: str) -> api.WholeSchedule:
        read_nothing(await request.body)
        return whole_schedule(await desk.resume(schedule_id, person()))

    @blueprint.post("/<schedule:schedule_id>/trigger")
    @access(Access.SUBMIT)
    @described(
        "Submit a run of a schedule now",
        api.Triggered,
        headers=(IDEMPOTENCY_KEY,),
        refusals={
            **SCHEDULE_MISSING,
            409: "flow.yaml not kept, or schedule not computed",
            413: "the run is too large",
            422: "invalid idempotency key",
        },
    )
    async def trigger(schedule_id: str) -> Response:
        read_nothing(await request.body)
        accepted = await desk.asked.trigger(schedule_id, person(), idempotency_key=key_of_call())
        triggered = api.Triggered(
            run_id=accepted.run_id, status=accepted.status, schedule_id=schedule_id
        )
        return json_body(triggered, *replayed(accepted)).response()

    @blueprint.post("/<schedule:schedule_id>/backfill")
    @access(Access.SUBMIT)
    @described(
        "Submit the runs of past ticks that have none",
        api.BackfillAnswer,
        body=api.BackfillBody,
        refusals={
            **SCHEDULE_MISSING,
            **SCHEDULE_INVALID,
            409: "flow.yaml not kept, or schedule not computed",
        },
        doc="Repeated, it makes no second runs. With `dry_run` it only tells what it would do.",
    )
    async def backfill(schedule_id: str) -> api.BackfillAnswer:
        body = await read_body(api.BackfillBody)
        schedule = await desk.get(schedule_id, person())
        timezone = schedule.spec.timezone
        begin = read_moment("from", body.begin, timezone)
        end = read_moment("to", body.end, timezone)
        limit = read_whole("limit", body.limit, 1, MAX_BACKFILL)
        return await desk.asked.backfill(
            schedule_id, person(), begin, end, limit, dry_run=body.dry_run
        )

    return blueprint


def schedule_times_blueprint(backend: Backend) -> Blueprint:
    """Previews, the calendar, and what became of ticks."""
    blueprint = Blueprint("schedule_times", __name__, url_prefix="/schedules")
    answer_with(blueprint, SCHEDULE_PROBLEMS)
    desk = backend.schedules

    @blueprint.post("/preview")
    @access(Access.READ)
    @described(
        "The next ticks of a schedule that is not made yet, or of what one is to be",
        api.SchedulePreview,
        body=api.SchedulePreviewBody,
        refusals=SCHEDULE_MISSING | SCHEDULE_INVALID | _TOO_LARGE,
    )
    async def preview() -> api.SchedulePreview:
        body = await read_body(api.SchedulePreviewBody)
        count = read_whole("count", body.count, 1, MAX_PREVIEW)
        wanted, id_ = await wish_of(backend, body), body.schedule_id
        before = None if id_ is None else await desk.get(id_, person())
        shown, found = await desk.preview(wanted, count, before)
        items = await desk.computed(lambda: [tick_view(shown, tick) for tick in found])
        return api.SchedulePreview(ticks=items, spec=shown.spec)

    @blueprint.get("/calendar")
    @access(Access.READ)
    @described("What is due in the next hours, by schedule", api.Calendar, query=api.CalendarQuery)
    async def calendar() -> api.Calendar:
        query = asked(api.CalendarQuery)
        found = [*desk.listed(person().tenant_id, schedule_filter(query))]
        page, cursor = page_of(found, query.cursor, query.limit)
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
        return await desk.computed(lambda: ticks_to_come(schedule, after, count))

    @blueprint.get("/<schedule:schedule_id>/ticks")
    @access(Access.READ)
    @described(
        "What became of the last ticks, and of their runs", api.TickPage, refusals=SCHEDULE_MISSING
    )
    async def past(schedule_id: str) -> api.TickPage:
        schedule = await desk.get(schedule_id, person())
        ids = [tick.run_id for tick in schedule.progress.ticks if tick.run_id is not None]
        statuses = await desk.statuses(ids)
        return await desk.computed(lambda: ticks_page(schedule, statuses))

    return blueprint
