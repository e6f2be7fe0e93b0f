"""The worker record: what the workers bucket holds under a worker's id."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import msgspec
from msgspec.structs import replace

from pyoco_server.model.errors import ModelError
from pyoco_server.model.json_text import decode_object, encode_json, without_nulls

MAX_WHEELS: Final = 50
"""How long each list of a wheel sync's report is at most."""

MAX_ERROR_CHARACTERS: Final = 2000


class WorkerState(StrEnum):
    """What a worker does; DISCONNECTED is never stored, see ``effective_state``."""

    RUNNING = "RUNNING"
    IDLE = "IDLE"
    STOPPED_GRACEFUL = "STOPPED_GRACEFUL"
    DISCONNECTED = "DISCONNECTED"

    @property
    def active(self) -> bool:
        """Whether the worker is there and takes jobs."""
        return self in {WorkerState.RUNNING, WorkerState.IDLE}


class WorkerOrder(StrEnum):
    """What an operator tells a worker."""

    PAUSE = "pause"
    RESUME = "resume"
    DRAIN = "drain"


class UnreadableWorker(ModelError):
    """Bytes that are no worker record."""


class SlotRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One slot of a worker, and what it executes."""

    index: int
    run_id: str | None = None
    attempt: int | None = None
    pid: int | None = None
    """The process id of the slot's child."""
    busy_since: float | None = None
    """Unix seconds."""
    resting: str | None = None
    """Why it takes no runs for a while, such as that the machine has no threads left."""


class SkippedWheel(msgspec.Struct, frozen=True, kw_only=True):
    """A wheel that this worker does not install, and why."""

    wheel_name: str
    package_name: str | None = None
    package_version: str | None = None
    reason: str | None = None


class InstalledWheel(msgspec.Struct, frozen=True, kw_only=True):
    """A wheel that is installed."""

    wheel_name: str
    package_name: str | None = None
    package_version: str | None = None
    installed_at: float | None = None
    """Unix seconds."""
    nuid: str | None = None
    """Which upload of it: the object store's unique id."""


class WheelSync(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker's last look at the wheel registry gave. Times are unix seconds."""

    enabled: bool = False
    last_result: str = "disabled"
    """``disabled``, ``idle``, ``ok`` or ``error``."""
    last_attempt_at: float | None = None
    last_success_at: float | None = None
    last_synced_at: float | None = None
    last_error: str | None = None
    selected_count: int = 0
    updated_count: int = 0
    removed_count: int = 0
    skipped_incompatible_count: int = 0
    selected_wheels: list[str] = msgspec.field(default_factory=list)
    updated_wheels: list[str] = msgspec.field(default_factory=list)
    removed_wheels: list[str] = msgspec.field(default_factory=list)
    skipped_incompatible: list[SkippedWheel] = msgspec.field(default_factory=list)
    installed_wheels: list[InstalledWheel] = msgspec.field(default_factory=list)


class WorkerRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A worker as it last described itself. Times are unix seconds."""

    worker_id: str
    instance_id: str
    """Which process: a worker that starts again is another instance."""
    state: WorkerState = WorkerState.IDLE
    hidden: bool = False
    """Belongs to the operator: a worker's own writes keep what is stored."""
    paused: bool = False
    """The same: the worker is to take no jobs, also after a restart, until it is resumed."""
    draining: bool = False
    """The process is to take no more jobs, to end those that it has, and to stop."""
    ordered_at: float | None = None
    """When an operator paused, resumed or drained it last. It belongs to the operator, as what follows."""
    ordered_by: str | None = None
    """Who that was: the API key, or without keys whom the call named."""
    order_reason: str | None = None
    """Why, in their words."""
    tags: list[str] = msgspec.field(default_factory=list)
    last_seen_at: float = 0.0
    last_heartbeat_at: float = 0.0
    heartbeat_at: float = 0.0
    """The same as ``last_heartbeat_at``, for older readers."""
    current_run_id: str | None = None
    last_run_id: str | None = None
    last_run_status: str | None = None
    last_run_started_at: float | None = None
    last_run_finished_at: float | None = None
    stopped_at: float | None = None
    stop_reason: str | None = None
    updated_at: float = 0.0
    wheel_sync: WheelSync = msgspec.field(default_factory=WheelSync)
    slots: list[SlotRecord] = msgspec.field(default_factory=list)
    """Not in records of pyoco-server 0.5.1, as what follows."""
    drain_timeout_sec: float | None = None
    """How long its runs go on when it is drained, before they are given back."""
    cancel_grace_period_sec: float | None = None
    """How long a cancelled run may take to end by itself before it is killed."""


_DECODER: Final = msgspec.json.Decoder(WorkerRecord)


def effective_state(
    record: WorkerRecord, now: float, disconnect_timeout: float, *, seen_at: float | None = None
) -> WorkerState:
    """Return the state as a reader sees it.

    A RUNNING or IDLE worker that was last seen more than ``disconnect_timeout`` seconds before
    ``now`` is DISCONNECTED; a timeout of 0 turns that off. One that stopped stays stopped. Where it was
    seen ``seen_at`` (`last_sign`), its own clock does not count.
    """
    seen = record.last_seen_at if seen_at is None else seen_at
    if record.state.active and 0 < disconnect_timeout < now - seen:
        return WorkerState.DISCONNECTED
    return record.state


def last_sign(record: WorkerRecord, stored_at: float) -> float:
    """Return when a worker was seen, by the clock of the server that stored its record then.

    What the operator changed last, or others put there, was not stored by the worker: its own word counts.
    """
    own = record.updated_at == record.last_seen_at
    return stored_at if own else min(record.last_seen_at, stored_at)


def seen(record: WorkerRecord, now: float) -> WorkerRecord:
    """Return the record with ``now`` as the time of its heartbeat."""
    return replace(
        record, last_seen_at=now, last_heartbeat_at=now, heartbeat_at=now, updated_at=now
    )


def keep_orders(own: WorkerRecord, stored: WorkerRecord | None) -> WorkerRecord:
    """Return a worker's ``own`` record with what the operator set in the ``stored`` one.

    A process that was told to drain is gone with its restart; a pause stays.
    """
    if stored is None:
        return own
    same = stored.instance_id == own.instance_id
    return replace(
        own,
        hidden=stored.hidden,
        paused=stored.paused,
        draining=same and stored.draining,
        ordered_at=stored.ordered_at,
        ordered_by=stored.ordered_by,
        order_reason=stored.order_reason,
    )


def ordered(record: WorkerRecord, order: WorkerOrder) -> WorkerRecord:
    """Return the record with an operator's order in it."""
    match order:
        case WorkerOrder.PAUSE:
            return replace(record, paused=True)
        case WorkerOrder.RESUME:
            return replace(record, paused=False, draining=False)
        case WorkerOrder.DRAIN:
            return replace(record, draining=True)


def decode_worker(raw: bytes, *, worker_id: str | None = None) -> WorkerRecord:
    """Read a worker record, of this or of an earlier version.

    Args:
        raw: The bytes.
        worker_id: The key it was stored under, for records that do not name their worker.

    Raises:
        UnreadableWorker: It is not JSON, not an object, names no worker, or has a field that
            cannot be understood.
    """
    try:
        return _DECODER.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return _decode_leniently(raw, worker_id)


def _decode_leniently(raw: bytes, worker_id: str | None) -> WorkerRecord:
    data = decode_object(raw, "a worker record", UnreadableWorker)
    if worker_id is not None:
        data.setdefault("worker_id", worker_id)
    if "worker_id" in data:
        data.setdefault("instance_id", data["worker_id"])
    if data.get("state") not in set(WorkerState):
        # Records of before 0.5 say no more than that the worker is alive.
        data.pop("state", None)
    heartbeat = data.get("heartbeat_at", 0.0)
    data.setdefault("last_seen_at", heartbeat)
    data.setdefault("last_heartbeat_at", heartbeat or data["last_seen_at"])
    data["heartbeat_at"] = data["last_heartbeat_at"]
    if not isinstance(data.get("tags"), list):
        data.pop("tags", None)
    if isinstance(data.get("wheel_sync"), dict):
        data["wheel_sync"] = without_nulls(data["wheel_sync"])
    else:
        data.pop("wheel_sync", None)
    try:
        return msgspec.convert(data, WorkerRecord)
    except msgspec.ValidationError as error:
        raise UnreadableWorker(
            f"worker record {data.get('worker_id')!r} cannot be understood: {error}"
        ) from None


def encode_worker(record: WorkerRecord) -> bytes:
    """Write a worker record, with its lists of wheels and its last error at their limits."""
    sync = record.wheel_sync
    return encode_json(
        replace(
            record,
            wheel_sync=replace(
                sync,
                last_error=sync.last_error and sync.last_error[:MAX_ERROR_CHARACTERS],
                selected_wheels=sync.selected_wheels[:MAX_WHEELS],
                updated_wheels=sync.updated_wheels[:MAX_WHEELS],
                removed_wheels=sync.removed_wheels[:MAX_WHEELS],
                skipped_incompatible=sync.skipped_incompatible[:MAX_WHEELS],
                installed_wheels=sync.installed_wheels[:MAX_WHEELS],
            ),
        )
    )
