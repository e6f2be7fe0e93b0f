"""Schedules."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Final, Literal, TypeAlias

import msgspec
from msgspec import UNSET, Meta, UnsetType

from pyoco_server.api.base import JsonBody, Query, says, shaped, whole
from pyoco_server.api.submissions import ATTEMPTS, BACKOFF, CPU, MEMORY, SECONDS
from pyoco_server.api.times import SPAN
from pyoco_server.model.run import RunStatus
from pyoco_server.model.schedules.schedule import (
    MAX_CATCH_UP,
    MAX_LABELS,
    MAX_MOMENTS,
    MAX_TEXT,
    TIMING_FIELDS,
    CatchUp,
    Overlap,
    ScheduleChange,
    ScheduleSpec,
    ScheduleState,
    TickOutcome,
    TickRecord,
)
from pyoco_server.model.schedules.ticks import LAST_MOMENT

_UNIX: Final = shaped(**whole(0, LAST_MOMENT - 1))
_CLOCK: Final = {"format": "date-and-time"}
_MOMENT: Final = says(
    "Unix seconds, a date and time with its offset such as 2026-12-01T09:00:00+09:00, or one that clocks of "
    "the schedule's time zone show; in whole seconds."
)


def _or_blank(**schema: Any) -> Meta:
    """Of a text; a blank one is as good as none."""
    return shaped(anyOf=[schema, {"pattern": r"^\s*$"}])


Moment: TypeAlias = Annotated[Annotated[float, _UNIX] | Annotated[str, shaped(**_CLOCK)], _MOMENT]
Bound: TypeAlias = Annotated[Annotated[float, _UNIX] | Annotated[str, _or_blank(**_CLOCK)], _MOMENT]
"""The first or the last moment."""

Labels: TypeAlias = Annotated[
    dict[
        Annotated[str, shaped(pattern="^[A-Za-z0-9_./-]{1,63}$")],
        Annotated[str, shaped(maxLength=MAX_TEXT)],
    ],
    shaped(maxProperties=MAX_LABELS),
]


class ScheduleFilter(Query, frozen=True, kw_only=True):
    """Which schedules."""

    flow: Annotated[str, says("Only those of this flow.")] = ""
    tag: Annotated[str, says("Only those that go to this tag.")] = ""
    paused: Annotated[bool | None, says("Only paused ones, or only others.")] = None
    label: Annotated[str, says("Only those with this label, as name=value.")] = ""
    q: Annotated[str, says("Only those whose id or name holds this text.")] = ""
    cursor: Annotated[str, says("A next_cursor.")] = ""


class SchedulesQuery(ScheduleFilter, frozen=True, kw_only=True):
    """A page of schedules."""

    limit: Annotated[int, Meta(ge=1, le=500, description="How many at most.")] = 100


class CalendarQuery(ScheduleFilter, frozen=True, kw_only=True):
    """What is due in the next hours."""

    hours: Annotated[int, Meta(ge=1, le=744, description="How many hours.")] = 24
    limit: Annotated[int, Meta(ge=1, le=200, description="How many schedules at most.")] = 200


class NextTicksQuery(Query, frozen=True, kw_only=True):
    """How many ticks to come."""

    count: Annotated[int, Meta(ge=1, le=100, description="How many.")] = 5


class ScheduleFields(JsonBody, kw_only=True):
    """What can be said of a schedule; one of ``cron``, ``every_sec``, ``rrule`` and ``at`` says when."""

    complete: ClassVar[bool] = True
    """Whether it says what to run and when; else it changes a schedule that does."""

    flow_name: Annotated[str, shaped(pattern="^[A-Za-z0-9_.-]{1,200}$")] | UnsetType | None = UNSET
    name: Annotated[str, shaped(maxLength=MAX_TEXT)] | UnsetType | None = UNSET
    tag: Annotated[str, _or_blank(pattern="^[A-Za-z0-9_-]{1,200}$")] | UnsetType | None = UNSET
    tags: list[str] | UnsetType | None = UNSET
    params: dict[str, Any] | UnsetType | None = UNSET
    workflow_yaml: Annotated[str, shaped(format="flow-yaml")] | UnsetType | None = UNSET
    """The text of a flow.yaml; ``params`` go over its defaults."""
    workflow_yaml_sha256: Annotated[str, shaped(format="flow-digest")] | UnsetType | None = UNSET
    """One that is kept already, by its digest."""
    cron: Annotated[str, shaped(format="crontab")] | UnsetType | None = UNSET
    """Five fields, or six with the second first."""
    every_sec: Annotated[float, shaped(**whole(1, 366 * 86_400))] | UnsetType | None = UNSET
    rrule: Annotated[str, shaped(format="recurrence-rule")] | UnsetType | None = UNSET
    """A recurrence rule (RFC 5545) in steps of days or more; it begins at ``start_at``."""
    at: Annotated[list[Moment], shaped(minItems=1, maxItems=MAX_MOMENTS)] | UnsetType | None = UNSET
    timezone: Annotated[str, _or_blank(format="time-zone")] | UnsetType | None = UNSET
    """An IANA time zone; UTC unless said."""
    jitter_sec: Annotated[float, shaped(minimum=0, maximum=86_400)] | UnsetType | None = UNSET
    """A tick is due up to so much later, always as much."""
    start_at: Bound | UnsetType | None = UNSET
    end_at: Bound | UnsetType | None = UNSET
    overlap: Overlap | UnsetType | None = UNSET
    catch_up: CatchUp | UnsetType | None = UNSET
    catch_up_limit: Annotated[float, shaped(**whole(1, MAX_CATCH_UP))] | UnsetType | None = UNSET
    timeout_sec: Annotated[float, shaped(**SECONDS)] | UnsetType | None = UNSET
    max_attempts: Annotated[float, shaped(**ATTEMPTS)] | UnsetType | None = UNSET
    retry_backoff_sec: Annotated[float, shaped(**BACKOFF)] | UnsetType | None = UNSET
    memory_mb: Annotated[float, shaped(**MEMORY)] | UnsetType | None = UNSET
    cpu_sec: Annotated[float, shaped(**CPU)] | UnsetType | None = UNSET
    queue_ttl_sec: Annotated[float, shaped(**SPAN)] | UnsetType | None = UNSET
    expected_start_within_sec: Annotated[float, shaped(**SPAN)] | UnsetType | None = UNSET
    expected_end_within_sec: Annotated[float, shaped(**SPAN)] | UnsetType | None = UNSET
    labels: Labels | UnsetType | None = UNSET
    paused: bool | UnsetType | None = UNSET

    @classmethod
    def json_schema(cls, schema: dict[str, Any]) -> dict[str, Any]:
        """One for each field that says when: they exclude each other, and none is null."""
        head = {name: schema.pop(name) for name in ("title", "description")}
        fields = schema["properties"]
        common = {name: told for name, told in fields.items() if name not in TIMING_FIELDS}
        common["flow_name"] = _without_null(fields["flow_name"])
        kinds = [
            {
                **schema,
                "properties": {**common, name: _without_null(fields[name])},
                "required": ["flow_name", name] if cls.complete else [],
            }
            for name in TIMING_FIELDS
        ]
        return {**head, "anyOf": kinds}

    def said(self) -> dict[str, Any]:
        """Those that are there, as `read_spec` takes them."""
        names = (*ScheduleSpec.__struct_fields__, "workflow_yaml_sha256")
        found = {name: getattr(self, name, UNSET) for name in names}
        return {name: value for name, value in found.items() if value is not UNSET}


class NewSchedule(ScheduleFields, kw_only=True):
    """A schedule to be made."""

    schedule_id: Annotated[str, shaped(pattern="^[A-Za-z0-9_-]{1,64}$")] | None = None
    """Chosen by the gateway where it is not given."""


class ScheduleUpdate(ScheduleFields, kw_only=True):
    """What a schedule is to be, or what of it is to be changed."""

    complete = False

    version: Annotated[float, shaped(**whole(1, 2**53))] | None = None
    """The version that is to be changed; another one is refused."""


class ScheduleReplacement(ScheduleUpdate, kw_only=True):
    """What a schedule is to be."""

    complete = True


class SchedulePreviewBody(ScheduleFields, kw_only=True):
    """A schedule that is not made yet, or what one is to be."""

    schedule_id: str | None = None
    """The one that it is to replace: a rule that stays goes on from where it began."""
    count: Annotated[float, shaped(**whole(1, 100))] = 5


class BackfillBody(JsonBody, kw_only=True):
    """Which ticks of the past are to have their runs."""

    begin: Moment = msgspec.field(name="from")
    end: Moment = msgspec.field(name="to")
    limit: Annotated[float, shaped(**whole(1, 1000))] = 100
    dry_run: bool = False


class ScheduledTick(msgspec.Struct, frozen=True, kw_only=True):
    """A tick to come."""

    tick_at: int
    due_at: float
    """The same, with the jitter."""
    local: str
    """As clocks of the schedule's time zone show it."""


class ScheduleView(ScheduleSpec, frozen=True, kw_only=True):
    """A schedule as it is now."""

    schedule_id: str
    version: int
    paused: bool
    state: ScheduleState
    tenant_id: str | None
    api_key_id: str | None
    created_at: float
    updated_at: float
    next_tick_at: int | None
    next_due_at: float | None
    waiting: list[int]
    """Ticks that wait for the run before them."""
    last_tick: TickRecord | None
    counts: dict[TickOutcome, int]
    problem: str | None
    """Why its times cannot be computed here, as far as that is seen without computing them."""


class WholeSchedule(ScheduleView, frozen=True, kw_only=True):
    """A schedule with its history of changes, the latest last."""

    changes: list[ScheduleChange]


class SchedulePage(msgspec.Struct, frozen=True, kw_only=True):
    """Schedules, by id."""

    items: list[ScheduleView]
    next_cursor: str | None
    total: int


class SchedulePreview(msgspec.Struct, frozen=True, kw_only=True):
    """The next ticks of a schedule."""

    ticks: list[ScheduledTick]
    spec: ScheduleSpec
    problem: str | None = None
    """Why they cannot be computed here."""


class PastTick(TickRecord, frozen=True, kw_only=True, omit_defaults=True):
    """What became of a tick, and of its run."""

    local: str
    status: RunStatus | None = None


class TickPage(msgspec.Struct, frozen=True, kw_only=True):
    """The last ticks of a schedule, the latest first."""

    items: list[PastTick]
    waiting: list[ScheduledTick]


class CalendarItem(msgspec.Struct, frozen=True, kw_only=True):
    """The ticks of one schedule to come."""

    schedule_id: str
    name: str
    flow_name: str
    timezone: str
    paused: bool
    ticks: list[ScheduledTick]
    more: bool
    """Whether there are more of them in that time."""
    problem: str | None
    """Why they cannot be computed here."""


class Calendar(msgspec.Struct, frozen=True, kw_only=True):
    """What is due in the next hours, by schedule."""

    begin: float = msgspec.field(name="from")
    end: float = msgspec.field(name="to")
    items: list[CalendarItem]
    next_cursor: str | None


class FilledTick(msgspec.Struct, frozen=True, kw_only=True):
    """What a backfill does for a tick."""

    tick_at: int
    local: str
    run_id: str
    outcome: Literal["exists", "submitted", "would_submit", "failed"]
    reason: str | None


class BackfillAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What a backfill does."""

    items: list[FilledTick]
    dry_run: bool
    more: bool
    """Whether there are more ticks than the limit."""


class Triggered(msgspec.Struct, frozen=True, kw_only=True):
    """A run that was asked for."""

    run_id: str
    status: RunStatus
    schedule_id: str


class ScheduleDeleted(msgspec.Struct, frozen=True, kw_only=True):
    """A schedule that is gone."""

    schedule_id: str
    deleted: bool = True


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    told: dict[str, Any] = schema["anyOf"][0]
    return told
