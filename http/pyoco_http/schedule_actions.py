"""What is done with a schedule over HTTP: paused, resumed, run now and for the past."""

from __future__ import annotations

from quart import Blueprint, request

from pyoco_http.access import Access, access
from pyoco_http.bodies import read_json
from pyoco_http.operation import IDEMPOTENCY_KEY, described
from pyoco_http.problems import answer_with
from pyoco_http.schedule_bodies import BACKFILL
from pyoco_http.schedule_calls import (
    SCHEDULE_INVALID,
    SCHEDULE_MISSING,
    SCHEDULE_PROBLEMS,
    person,
)
from pyoco_http.schedule_views import filled_view, whole_schedule
from pyoco_http.submissions import key_of_call
from pyoco_server.api import schedules as api
from pyoco_server.backend import Backend
from pyoco_server.gateway.schedules.desk import MAX_BACKFILL
from pyoco_server.model.schedules.schedule import read_moment, read_whole


def schedule_actions_blueprint(backend: Backend) -> Blueprint:
    """`POST` below `/schedules/{schedule_id}`."""
    blueprint = Blueprint("schedule_actions", __name__, url_prefix="/schedules")
    answer_with(blueprint, SCHEDULE_PROBLEMS)
    desk = backend.schedules

    @blueprint.post("/<schedule:schedule_id>/pause")
    @access(Access.SUBMIT)
    @described("Let no tick have a run", api.WholeSchedule, refusals=SCHEDULE_MISSING)
    async def pause(schedule_id: str) -> api.WholeSchedule:
        return whole_schedule(await desk.pause(schedule_id, person()))

    @blueprint.post("/<schedule:schedule_id>/resume")
    @access(Access.SUBMIT)
    @described("Go on with the ticks from now on", api.WholeSchedule, refusals=SCHEDULE_MISSING)
    async def resume(schedule_id: str) -> api.WholeSchedule:
        return whole_schedule(await desk.resume(schedule_id, person()))

    @blueprint.post("/<schedule:schedule_id>/trigger")
    @access(Access.SUBMIT)
    @described(
        "Submit a run of a schedule now",
        api.Triggered,
        headers=(IDEMPOTENCY_KEY,),
        refusals={
            **SCHEDULE_MISSING,
            409: "flow.yaml not kept",
            413: "the run is too large",
            422: "invalid idempotency key",
        },
    )
    async def trigger(schedule_id: str) -> api.Triggered:
        accepted = await desk.trigger(schedule_id, person(), idempotency_key=key_of_call())
        return api.Triggered(
            run_id=accepted.run_id, status=accepted.status, schedule_id=schedule_id
        )

    @blueprint.post("/<schedule:schedule_id>/backfill")
    @access(Access.SUBMIT)
    @described(
        "Submit the runs of past ticks that have none",
        api.BackfillAnswer,
        body=BACKFILL,
        refusals={**SCHEDULE_MISSING, **SCHEDULE_INVALID, 409: "flow.yaml not kept"},
        doc="Repeated, it makes no second runs. With `dry_run` it only tells what it would do.",
    )
    async def backfill(schedule_id: str) -> api.BackfillAnswer:
        body = read_json(await request.body, api.BackfillBody)
        schedule = await desk.get(schedule_id, person())
        timezone = schedule.spec.timezone
        begin = read_moment("from", body.begin, timezone)
        end = read_moment("to", body.end, timezone)
        limit = read_whole("limit", body.limit, 1, MAX_BACKFILL)
        done = await desk.backfill(schedule_id, person(), begin, end, limit, dry_run=body.dry_run)
        items = [filled_view(item, timezone) for item in done.items]
        return api.BackfillAnswer(items=items, dry_run=body.dry_run, more=done.more)

    return blueprint
