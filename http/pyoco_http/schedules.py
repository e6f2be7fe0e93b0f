"""Schedules over HTTP: made, changed and looked at."""

from __future__ import annotations

import uuid

from quart import Blueprint, request

from pyoco_http.access import Access, access
from pyoco_http.bodies import read_json
from pyoco_http.call import asked
from pyoco_http.operation import described
from pyoco_http.problems import answer_with
from pyoco_http.schedule_bodies import CHANGED_SCHEDULE, NEW_SCHEDULE, REPLACED_SCHEDULE
from pyoco_http.schedule_calls import (
    SCHEDULE_CONFLICT,
    SCHEDULE_INVALID,
    SCHEDULE_MISSING,
    SCHEDULE_PROBLEMS,
    check_free,
    page_of,
    person,
    schedule_filter,
    version_of,
    wish_of,
)
from pyoco_http.schedule_views import schedule_view, whole_schedule
from pyoco_server.api import schedules as api
from pyoco_server.backend import Backend
from pyoco_server.gateway.schedules.desk import ScheduleNotFound


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
        page, cursor = page_of(found, query.limit)
        items = [schedule_view(item) for item in page]
        return api.SchedulePage(items=items, next_cursor=cursor, total=len(found))

    @blueprint.post("")
    @access(Access.SUBMIT)
    @described(
        "Make a schedule",
        api.ScheduleView,
        body=NEW_SCHEDULE,
        refusals=SCHEDULE_CONFLICT | SCHEDULE_INVALID,
        doc="Nothing before now is due. Its runs carry its `schedule_id` and their `scheduled_at`.",
    )
    async def create() -> api.ScheduleView:
        body = read_json(await request.body, api.NewSchedule)
        schedule_id = f"s-{uuid.uuid4().hex[:12]}" if body.schedule_id is None else body.schedule_id
        check_free(schedule_id)
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
        body=REPLACED_SCHEDULE,
        refusals=SCHEDULE_MISSING | SCHEDULE_CONFLICT | SCHEDULE_INVALID,
        doc="Where times change, ticks go by the new ones from now on.",
    )
    async def put(schedule_id: str) -> api.WholeSchedule:
        body = read_json(await request.body, api.ScheduleUpdate)
        wanted, version = await wish_of(backend, body), version_of(body)
        try:
            stored = await desk.replace(schedule_id, wanted, person(), version=version)
        except ScheduleNotFound:
            if version is not None:
                raise
            check_free(schedule_id)
            stored = await desk.create(schedule_id, wanted, person())
        return whole_schedule(stored)

    @blueprint.patch("/<schedule:schedule_id>")
    @access(Access.SUBMIT)
    @described(
        "Change some fields of a schedule",
        api.WholeSchedule,
        body=CHANGED_SCHEDULE,
        refusals=SCHEDULE_MISSING | SCHEDULE_CONFLICT | SCHEDULE_INVALID,
    )
    async def patch(schedule_id: str) -> api.WholeSchedule:
        body = read_json(await request.body, api.ScheduleUpdate)
        wanted = await wish_of(backend, body)
        return whole_schedule(
            await desk.patch(schedule_id, wanted, person(), version=version_of(body))
        )

    @blueprint.delete("/<schedule:schedule_id>")
    @access(Access.SUBMIT)
    @described("Delete a schedule; its runs stay", api.ScheduleDeleted, refusals=SCHEDULE_MISSING)
    async def delete(schedule_id: str) -> api.ScheduleDeleted:
        await desk.delete(schedule_id, person())
        return api.ScheduleDeleted(schedule_id=schedule_id)

    return blueprint
