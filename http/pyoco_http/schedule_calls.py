"""What calls about schedules have in common: what they want, and how they are refused."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

from pyoco_http.access import person
from pyoco_http.flows import read_flow_file
from pyoco_http.problems import Problem, Problems, because, retry_after
from pyoco_http.query import refused
from pyoco_server.api import schedules as api
from pyoco_server.api.base import Query
from pyoco_server.backend import Backend
from pyoco_server.gateway.read_model.filters import RunFilter
from pyoco_server.gateway.schedules.desk import ScheduleExists, TooManySchedules, Wish
from pyoco_server.gateway.schedules.records import ScheduleChanged, ScheduleNotFound
from pyoco_server.gateway.schedules.runs import FlowNotKept, NotComputed
from pyoco_server.model.errors import ErrorId, FlowFileError
from pyoco_server.model.schedules.reading import read_whole
from pyoco_server.model.schedules.schedule import Schedule
from pyoco_server.model.schedules.ticks import NotATiming
from pyoco_server.store.threads import read_aside

SCHEDULE_MISSING: Final = {404: "schedule not found"}
SCHEDULE_CONFLICT: Final = {409: "schedule exists, or has another version"}
SCHEDULE_INVALID: Final = {422: "invalid schedule: `field` says what of it"}

SCHEDULE_PROBLEMS: Final[Problems] = {
    ScheduleNotFound: lambda error: Problem(
        404, "schedule not found", ErrorId.SCHEDULE_NOT_FOUND, schedule_id=error.schedule_id[:80]
    ),
    ScheduleExists: because(409, "schedule exists", ErrorId.SCHEDULE_CONFLICT),
    ScheduleChanged: because(409, "schedule changed", ErrorId.SCHEDULE_CONFLICT),
    TooManySchedules: because(409, "too many schedules", ErrorId.SCHEDULE_CONFLICT),
    NotComputed: lambda error: Problem(
        503, "schedule not computed", None, headers=retry_after(1), reason=str(error)
    ),
    NotATiming: lambda error: Problem(409, "schedule not computed", None, reason=str(error)),
    FlowNotKept: because(409, "flow.yaml not kept", ErrorId.NOT_REPEATABLE),
    FlowFileError: because(409, "flow.yaml not taken", ErrorId.NOT_REPEATABLE),
}


async def wish_of(backend: Backend, body: api.ScheduleFields) -> Wish:
    """What the body of a call wants.

    Raises:
        Problem: Its flow.yaml cannot be taken, or is not kept.
    """
    fields, file = body.said(), None
    text, sha256 = body.workflow_yaml, body.workflow_yaml_sha256
    if text is None or sha256 is None:
        fields |= {"workflow_yaml_sha256": None, "workflow_yaml_bytes": None}
    if isinstance(sha256, str) and not isinstance(text, str):
        text = await _flow_text(backend, sha256)
        if text is None:
            raise refused(Query, "workflow_yaml_sha256", f"no flow.yaml {sha256[:80]!r} is kept")
    if isinstance(text, str):
        raw = text.encode()
        file = await read_aside(len(raw), partial(read_flow_file, raw, backend.settings))
    paused = body.paused if isinstance(body.paused, bool) else None
    return Wish(fields, file, paused)


async def _flow_text(backend: Backend, sha256: str) -> str | None:
    """The flow.yaml that has a digest, where a schedule or a run that the caller may see names it."""
    tenant_id = person().tenant_id
    if tenant_id is not None:
        named = backend.schedules.listed(
            tenant_id, lambda schedule: schedule.spec.workflow_yaml_sha256 == sha256
        )
        wanted = RunFilter(tenant=tenant_id, sha256=sha256)
        if not [*named] and not (await backend.reads.list_runs(wanted, None, 1)).rows:
            return None
    return await backend.schedules.flow_text(sha256)


def version_of(body: api.ScheduleUpdate) -> int | None:
    """The version that the body of a call names, if it does.

    Raises:
        InvalidField: It is none.
    """
    return None if body.version is None else read_whole("version", body.version, 1, 2**53)


def schedule_filter(query: api.ScheduleFilter) -> Callable[[Schedule], bool]:
    """The filter that a query asks for, whichever page."""
    text = query.q.lower()
    name, _, value = query.label.partition("=")

    def wanted(schedule: Schedule) -> bool:
        spec = schedule.spec
        return (
            query.flow in {"", spec.flow_name}
            and query.tag in {"", spec.tag}
            and query.paused in {None, schedule.paused}
            and (text in schedule.schedule_id.lower() or text in spec.name.lower())
            and (not query.label or spec.labels.get(name) == value)
        )

    return wanted


def page_of(found: list[Schedule], cursor: str, limit: int) -> tuple[list[Schedule], str | None]:
    """The first of the schedules behind a cursor, and where the next page begins."""
    rest = [schedule for schedule in found if _place(schedule) > cursor]
    page = rest[:limit]
    return page, _place(page[-1]) if len(rest) > limit else None


def _place(schedule: Schedule) -> str:
    return f"{schedule.schedule_id} {schedule.tenant_id or ''}"
