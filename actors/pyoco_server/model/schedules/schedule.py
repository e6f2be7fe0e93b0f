"""A schedule: what runs when, with what, and where it is with that.

One record holds both what people say of it and how far it is, so that one compare-and-set decides a tick
against every change that is made at the same moment.
"""

from __future__ import annotations

import re
import uuid
from enum import StrEnum
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from pyoco_server.model.errors import InvalidField, ModelError
from pyoco_server.model.json_text import safe_repr

MAX_MOMENTS: Final = 1_000
MAX_LABELS: Final = 20
MAX_TEXT: Final = 200
MAX_CATCH_UP: Final = 1_000
DEFAULT_CATCH_UP: Final = 100
MAX_TICKS_KEPT: Final = 50
"""How many of its last ticks a schedule tells of; its runs tell of the others."""
MAX_CHANGES_KEPT: Final = 50
MAX_WAITING: Final = 100
"""How many ticks may wait for the run before them."""
MAX_ACTIVE: Final = 20
"""How many of the last runs are looked at for one that still goes on."""

TIMING_FIELDS: Final = ("cron", "every_sec", "rrule", "at")

_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")

NOT_IDS: Final = ("calendar", "preview")
"""Words that the API has where the id of a schedule stands."""

_RUN_IDS: Final = uuid.UUID("6b1ad5a2-7d0c-4a52-9a53-8fe0c9ba1b6e")


class Overlap(StrEnum):
    """What becomes of a tick while a run of the schedule goes on."""

    SKIP = "skip"
    """It has no run."""
    QUEUE = "queue"
    """It waits; one after the other."""
    CANCEL_RUNNING = "cancel_running"
    """The run is cancelled; once it has ended, the latest tick has its own."""
    ALLOW = "allow"
    """They run side by side."""


class CatchUp(StrEnum):
    """What becomes of ticks that fell due while nobody could see to them."""

    NONE = "none"
    """None is made up; the last one only if it is at most `ON_TIME_SECONDS` late."""
    LAST = "last"
    """The last one is."""
    ALL = "all"
    """The last ``catch_up_limit`` of them are."""


class UnreadableSchedule(ModelError):
    """Bytes that are no schedule."""


class ScheduleSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What people say of a schedule. Moments are whole unix seconds."""

    flow_name: str
    name: str = ""
    tag: str = "default"
    tags: list[str] = msgspec.field(default_factory=list)
    params: dict[str, Any] = msgspec.field(default_factory=dict)
    workflow_yaml_sha256: str | None = None
    workflow_yaml_bytes: int | None = None
    # One of TIMING_FIELDS is set.
    cron: str | None = None
    every_sec: int | None = None
    rrule: str | None = None
    at: list[int] | None = None
    timezone: str = "UTC"
    jitter_sec: float = 0.0
    start_at: int | None = None
    end_at: int | None = None
    overlap: Overlap = Overlap.SKIP
    catch_up: CatchUp = CatchUp.LAST
    catch_up_limit: int = DEFAULT_CATCH_UP
    timeout_sec: float | None = None
    max_attempts: int | None = None
    retry_backoff_sec: float | None = None
    memory_mb: int | None = None
    cpu_sec: float | None = None
    queue_ttl_sec: float | None = None
    expected_start_within_sec: float | None = None
    expected_end_within_sec: float | None = None
    labels: dict[str, str] = msgspec.field(default_factory=dict)
    anchor_at: int = 0
    """Where a recurrence rule begins: `start_at`, or when the schedule was made."""


SAID_FIELDS: Final = tuple(
    name
    for name in ScheduleSpec.__struct_fields__
    if name not in {"workflow_yaml_bytes", "anchor_at"}
)
"""What people say; the others follow from it."""


class ScheduleState(StrEnum):
    """Whether ticks of a schedule are to come."""

    ACTIVE = "active"
    PAUSED = "paused"
    ENDED = "ended"


class TickOutcome(StrEnum):
    """What became of a tick."""

    RUN = "run"
    """It has a run."""
    SKIPPED = "skipped"
    """It has none, by ``overlap``."""
    MISSED = "missed"
    """It has none, by ``catch_up``."""
    REFUSED = "refused"
    """It has none: its run cannot be submitted."""


class TickRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What became of a tick, or of one that somebody triggered."""

    tick: int
    outcome: TickOutcome
    decided_at: float
    run_id: str | None = None
    reason: str | None = None
    count: int = 1
    """How many ticks up to this one share that; at least so many."""
    triggered: bool = False
    """Whether it is no tick of its own, but a run that somebody asked for."""


class ScheduleChange(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Who has changed a schedule, when, and what."""

    changed_at: float
    action: str
    changed_by: str | None = None
    fields: list[str] = msgspec.field(default_factory=list)
    version: int = 0


class ScheduleProgress(msgspec.Struct, frozen=True, kw_only=True):
    """How far a schedule is."""

    cursor: int
    """Of each tick up to this moment it is decided what becomes of it, but for those that wait."""
    wake_at: float | None = None
    """When it has to be looked at next; None is never."""
    next_tick: int | None = None
    next_due_at: float | None = None
    """When that one is due: kept, since it costs time to compute."""
    waiting: list[int] = msgspec.field(default_factory=list)
    """Ticks that wait for the run before them."""
    starting: list[int] = msgspec.field(default_factory=list)
    """Ticks whose runs are being submitted, or may be: whoever looks next goes on with them."""
    active: list[str] = msgspec.field(default_factory=list)
    """Its last runs, as far as they are not known to have ended."""
    ticks: list[TickRecord] = msgspec.field(default_factory=list)
    """Its last ones, the latest last."""
    counts: dict[TickOutcome, int] = msgspec.field(default_factory=dict)


class Schedule(msgspec.Struct, frozen=True, kw_only=True):
    """A schedule as it is stored."""

    schedule_id: str
    spec: ScheduleSpec
    progress: ScheduleProgress
    paused: bool = False
    version: int = 1
    """Rises with each change by people."""
    tenant_id: str | None = None
    api_key_id: str | None = None
    """The key of who made it; its runs are that key's."""
    created_at: float = 0.0
    updated_at: float = 0.0
    changes: list[ScheduleChange] = msgspec.field(default_factory=list)
    """The last ones, the latest last."""

    @property
    def key(self) -> str:
        """Where it is stored."""
        return storage_key(self.tenant_id, self.schedule_id)

    @property
    def state(self) -> ScheduleState:
        """Whether ticks are to come."""
        if self.paused:
            return ScheduleState.PAUSED
        progress = self.progress
        if progress.next_tick is None and not (progress.waiting or progress.starting):
            return ScheduleState.ENDED
        return ScheduleState.ACTIVE

    def run_id_of(self, tick: int) -> str:
        """The run of a tick: the same for whoever submits it, and however late."""
        return str(uuid.uuid5(_RUN_IDS, f"{self.key} {tick}"))


def storage_key(tenant_id: str | None, schedule_id: str) -> str:
    """Where a schedule is stored: each tenant has its own ids."""
    return f"schedule.{'_' if tenant_id is None else f't-{tenant_id}'}.{schedule_id}"


def is_schedule_key(key: str) -> bool:
    """Whether a key of the bucket is a schedule's."""
    return key.startswith("schedule.")


def check_schedule_id(text: str) -> str:
    """Return the id of a schedule.

    Raises:
        InvalidField: It cannot be one.
    """
    if _ID.fullmatch(text) is None:
        raise InvalidField(
            "schedule_id",
            f"takes 1 to 64 of the characters A-Z a-z 0-9 _ - only, not {safe_repr(text)[:80]}",
        )
    if text in NOT_IDS:
        raise InvalidField("schedule_id", f"{text!r} is a word of the API")
    return text


def decode_schedule(raw: bytes) -> Schedule:
    """Read a stored schedule.

    Raises:
        UnreadableSchedule: It is none.
    """
    try:
        schedule = _DECODER.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise UnreadableSchedule(f"no schedule: {error}") from None
    progress = schedule.progress
    if progress.next_due_at is None and progress.next_tick is not None:
        # Another version does not write it: it is due then, or so much later.
        progress = replace(progress, next_due_at=float(progress.next_tick))
        schedule = replace(schedule, progress=progress)
    return schedule


_DECODER: Final = msgspec.json.Decoder(Schedule)
