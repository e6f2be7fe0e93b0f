"""The run snapshot: what the runs bucket holds under a run's id.

The JSON is that of pyoco-server 0.5.1 with fields added; a reader ignores what it does not know
and takes what is missing or null for empty.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final, TypeAlias, TypeVar

import msgspec
from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from pyoco_server.model.artifact import Artifact, RefusedArtifact
from pyoco_server.model.errors import ErrorId, ModelError
from pyoco_server.model.json_text import decode_object, encode_json, without_nulls
from pyoco_server.model.result import Result, ResultNote

T = TypeVar("T")

ERROR_BYTES: Final = 4096
"""What is left of an ``error`` that alone would make a snapshot too large."""

MAX_ATTEMPT_RECORDS: Final = 20
"""How many past attempts a snapshot tells of."""

MAX_FAILED_TASKS: Final = 100
"""How many tasks that failed a run names."""

MAX_TRIED: Final = 100
"""How many tasks and iterations a snapshot keeps the tries of that were begun."""

ATTEMPT_ERROR_BYTES: Final = 300
"""How much of the error of each of them."""

# What is left of an error or traceback of a task record, and how many of its tries and of its iterations.
_SHORT_ERROR_BYTES: Final = 1024
_SHORT_LIST: Final = 3


class RunStatus(StrEnum):
    """Where a run stands.

    ``PENDING → RUNNING → COMPLETED | FAILED``, ``PENDING | RUNNING → CANCELLING → CANCELLED``, and
    ``RUNNING → PENDING`` when another attempt follows.
    """

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLING = "CANCELLING"
    CANCELLED = "CANCELLED"

    @property
    def terminal(self) -> bool:
        """Whether the run has ended and will never change again."""
        return self in TERMINAL_STATUSES


class RunState(StrEnum):
    """What a run is told to be: its status, or one of two that its fields say more of.

    pyoco-server 0.5.1 knows statuses only, so that these two are never stored: a run that is SCHEDULED is
    PENDING with a ``scheduled_for`` ahead, and one that is EXPIRED is FAILED for that reason.
    """

    PENDING = "PENDING"
    SCHEDULED = "SCHEDULED"
    RUNNING = "RUNNING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    EXPIRED = "EXPIRED"
    CANCELLING = "CANCELLING"
    CANCELLED = "CANCELLED"

    @property
    def status(self) -> RunStatus:
        """The status that is stored of it."""
        match self:
            case RunState.SCHEDULED:
                return RunStatus.PENDING
            case RunState.EXPIRED:
                return RunStatus.FAILED
            case _:
                return RunStatus(self.value)


TERMINAL_STATUSES: Final = frozenset({RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELLED})


class TaskState(StrEnum):
    """Where a task of a run stands."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    SKIPPED = "SKIPPED"
    """It was not executed, and will not be. Stored as PENDING, which readers of 0.5.1 know; see `shown`."""

    @property
    def terminal(self) -> bool:
        """Whether the task has ended."""
        return self not in {TaskState.PENDING, TaskState.RUNNING}


class UnreadableSnapshot(ModelError):
    """Bytes that are no run snapshot."""


class SnapshotTooLarge(ModelError):
    """A snapshot that is too large even without its task records.

    Args:
        size_bytes: Its size without them.
        max_bytes: What would be allowed.
        parts: The size in bytes of each field that can be large.
    """

    error_id = ErrorId.SNAPSHOT_TOO_LARGE

    def __init__(self, size_bytes: int, max_bytes: int, parts: Mapping[str, int]) -> None:
        self.size_bytes = size_bytes
        self.max_bytes = max_bytes
        self.parts = dict(parts)
        sizes = ", ".join(f"{name} {size}" for name, size in parts.items())
        super().__init__(
            f"snapshot of {size_bytes} bytes without its task records ({sizes}); "
            f"at most {max_bytes} bytes are allowed (PYOCO_MAX_RUN_SNAPSHOT_BYTES)"
        )


class TaskProgress(msgspec.Struct, frozen=True, kw_only=True):
    """What a task reported last of how far it is."""

    done: float | None = None
    total: float | None = None
    message: str | None = None
    at: float
    """When, in unix seconds."""


class TryRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A try of a task that may have more than one. Times are unix seconds."""

    number: int
    started_at: float | None = None
    ended_at: float | None = None
    error: str | None = None
    """What it failed with, shortened; of one that succeeded, nothing."""


class IterationRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A time that a task was executed in a loop. Times are unix seconds."""

    path: str
    """Which one, from the outermost loop inwards, e.g. ``foreach:n[2].repeat[0]``."""
    state: str
    started_at: float | None = None
    ended_at: float | None = None
    error: str | None = None


class TaskRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one task of a run. Times are unix seconds.

    ``inputs``, ``output`` and ``artifacts`` hold JSON only; their producer passes them through
    ``pyoco_server.model.json_text.json_safe``.
    """

    state: TaskState = TaskState.PENDING
    started_at: float | None = None
    ended_at: float | None = None
    duration_ms: float | None = None
    error: str | None = None
    traceback: str | None = None
    inputs: dict[str, Any] = msgspec.field(default_factory=dict)
    output: Any = None
    artifacts: dict[str, Any] = msgspec.field(default_factory=dict)
    result: ResultNote | UnsetType = UNSET
    """Of a task whose ``output`` is not all of its result."""
    progress: TaskProgress | UnsetType = UNSET
    """Of a task that reports it."""
    tries: list[TryRecord] | UnsetType = UNSET
    """Its last tries, where it may have more than one; also those of earlier attempts that are counted on."""
    iterations: list[IterationRecord] | UnsetType = UNSET
    """Its last times in a loop."""
    iteration_counts: dict[str, int] | UnsetType = UNSET
    """How many times in a loop ended in each state."""
    skipped: bool | UnsetType = UNSET
    """Whether it will not be executed: its branch is not taken, or what it waits for failed."""


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """What the processes of an attempt took of their machine, as far as it is known."""

    peak_memory_bytes: int | None = None
    """The most memory that its process had, or the largest one that it started and waited for."""
    cpu_sec: float | None = None
    """Processor time of its process and of those that it started and waited for, in seconds."""


class AttemptRecord(msgspec.Struct, frozen=True, kw_only=True):
    """An attempt that ended without ending its run. Times are unix seconds."""

    attempt: int
    worker_id: str | None = None
    started_at: float | None = None
    ended_at: float | None = None
    reason: str | None = None
    """Why it ended, for programs, e.g. ``execution_error``, ``timeout``, ``lost``, ``worker_stopped``."""
    error: str | None = None
    peak_memory_bytes: int | None = None
    """As `Usage.peak_memory_bytes`; None where it is not known, as when the worker was lost."""
    cpu_sec: float | None = None
    """As `Usage.cpu_sec`."""


class RunWheel(msgspec.Struct, frozen=True, kw_only=True):
    """A wheel that an attempt could import from."""

    name: str
    """The package's name, normalised."""
    version: str
    sha256: str
    """Of the wheel file, in hex."""


class Late(msgspec.Struct, frozen=True, kw_only=True):
    """Which of what was expected of a run did not come in time."""

    start: bool = False
    end: bool = False


Moment: TypeAlias = float | UnsetType | None
"""Unix seconds; what is not set is not written."""


class RunSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """The state of a run. Times are unix seconds.

    The fields from ``attempt`` on are not in snapshots of pyoco-server 0.5.1.
    """

    run_id: str
    flow_name: str
    status: RunStatus
    tag: str | None = None
    tags: list[str] = msgspec.field(default_factory=list)
    tenant_id: str | None = None
    api_key_id: str | None = None
    workflow_yaml_sha256: str | None = None
    workflow_yaml_bytes: int | None = None
    params: dict[str, Any] = msgspec.field(default_factory=dict)
    tasks: dict[str, TaskState] = msgspec.field(default_factory=dict)
    task_records: dict[str, TaskRecord] = msgspec.field(default_factory=dict)
    task_records_truncated: bool = False
    start_time: float | None = None
    end_time: float | None = None
    heartbeat_at: float | None = None
    updated_at: float | None = None
    error: str | None = None
    worker_id: str | None = None
    cancel_requested_at: float | None = None
    cancel_requested_by: str | None = None
    attempt: int = 0
    """How often the run was claimed; the latest claim is the only one that may write."""
    max_attempts: int | None = None
    """How often it may be claimed; ``None``: as often as its job is delivered."""
    timeout_sec: float | None = None
    """How long one attempt may take, in seconds."""
    retry_backoff_sec: float | None = None
    """The wait before the second attempt, in seconds; doubled before each further one."""
    next_attempt_at: float | None = None
    """When a run that waits after a failed attempt may be claimed again."""
    attempts: list[AttemptRecord] = msgspec.field(default_factory=list)
    """The attempts before the present one; the last ``MAX_ATTEMPT_RECORDS`` of them."""
    worker_instance_id: str | None = None
    """Which process holds the claim: a worker that starts again is another instance."""
    slot: int | None = None
    """Which slot of that worker."""
    job_sequence: int | None = None
    """Which message of the work queue it was claimed with."""
    submitted_at: float | None = None
    reason: str | None = None
    """Why the run ended as it did, for programs, e.g. ``execution_error``."""
    retry_of: str | None = None
    """The run that this one repeats."""
    cancel_reason: str | None = None
    """What the one who asked for the cancel gave as the reason."""
    wheels: list[RunWheel] = msgspec.field(default_factory=list)
    """What the latest attempt could import from, by name."""
    artifacts: list[Artifact] = msgspec.field(default_factory=list)
    """What its tasks saved, by name."""
    failed_tasks: list[str] = msgspec.field(default_factory=list)
    """The tasks that failed, the first :data:`MAX_FAILED_TASKS`; a run that has some may be COMPLETED."""
    artifacts_refused: list[RefusedArtifact] = msgspec.field(default_factory=list)
    """What of it was not kept; the first of many."""
    results: list[Result] = msgspec.field(default_factory=list)
    """What its tasks returned and is too large for their records."""
    request_id: str | None = None
    """The id of the submitting request, as in the log lines."""
    # Not written where there is nothing to tell: most runs are stored without.
    memory_mb: int | UnsetType | None = UNSET
    """How much memory the processes of one attempt may have together, in MB of 1,048,576 bytes."""
    cpu_sec: float | UnsetType | None = UNSET
    """How much processor time they may take together, in seconds."""
    usage: Usage | UnsetType | None = UNSET
    """What the latest attempt took, once it has ended."""
    uncounted_attempts: int | UnsetType | None = UNSET
    """How many attempts are none of ``max_attempts``, since their worker had no means to execute anything."""
    scheduled_for: Moment = UNSET
    """When it may start, where that is later than its submission."""
    expires_at: Moment = UNSET
    """When it may not start any more."""
    expected_start_within_sec: Moment = UNSET
    """It is late where it has not started so many seconds after it may."""
    expected_end_within_sec: Moment = UNSET
    """It is late where it has not ended so many seconds after it may start."""
    late: Late | UnsetType | None = UNSET
    """What of it was late."""
    tries_begun: dict[str, list[TryRecord]] | UnsetType | None = UNSET
    """The last tries of what may be tried again and has not succeeded, by task and iteration: an attempt that
    follows one which was lost or given back goes on counting."""

    schedule_id: str | UnsetType | None = UNSET
    """The schedule that submitted it."""
    scheduled_at: Moment = UNSET
    """For which tick of that."""
    params_left_out: bool | UnsetType | None = UNSET
    """Whether it had params, which its end had no room for: ``params`` is empty."""


def known(value: T | UnsetType | None) -> T | None:
    """Return the value of a field, ``None`` where it is not set."""
    return None if value is UNSET else value


_DECODER: Final = msgspec.json.Decoder(RunSnapshot)


def decode_snapshot(raw: bytes) -> RunSnapshot:
    """Read a snapshot, of this or of an earlier version.

    What lies too deep in one that an earlier version accepted is left out.

    Raises:
        UnreadableSnapshot: It is not JSON, not an object, names no run, or has a status or a
            field that cannot be understood.
    """
    try:
        return _DECODER.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return _decode_leniently(raw)


def _decode_leniently(raw: bytes) -> RunSnapshot:
    data = decode_object(raw, "a run snapshot", UnreadableSnapshot, cut=True)
    if isinstance(records := data.get("task_records"), dict):
        data["task_records"] = {
            name: without_nulls(record) if isinstance(record, dict) else record
            for name, record in records.items()
        }
    try:
        return msgspec.convert(data, RunSnapshot)
    except msgspec.ValidationError as error:
        raise UnreadableSnapshot(
            f"run snapshot {data.get('run_id')!r} cannot be understood: {error}"
        ) from None


def encode_snapshot(snapshot: RunSnapshot, *, max_bytes: int) -> bytes:
    """Write a snapshot in at most ``max_bytes`` bytes; 0 means no limit.

    One that is larger has its task records `shortened`, and the middle of its ``error`` left out. Where that
    is not enough, it loses its records, and then more of its ``error``. The states of its tasks always stay.

    Raises:
        SnapshotTooLarge: It is larger even so, because of its params, its number of tasks or
            its names.
    """
    raw = encode_json(snapshot)
    if max_bytes <= 0 or len(raw) <= max_bytes:
        return raw
    records = {name: shortened(record) for name, record in snapshot.task_records.items()}
    error = snapshot.error and shrink_error(snapshot.error, ERROR_BYTES)
    raw = encode_json(replace(snapshot, task_records=records, error=error))
    if len(raw) <= max_bytes:
        return raw
    reduced = without_records(snapshot)
    raw = encode_json(reduced)
    error_bytes = ERROR_BYTES
    # Again, because JSON may take six bytes for each byte of a text with control characters.
    while len(raw) > max_bytes and reduced.error and error_bytes >= 64:
        shrunk = shrink_error(reduced.error, error_bytes)
        raw = encode_json(replace(reduced, error=shrunk))
        error_bytes //= 4
    if len(raw) > max_bytes:
        parts = ("params", "tasks", "error", "tags", "flow_name")
        raise SnapshotTooLarge(
            len(raw), max_bytes, {part: len(encode_json(getattr(reduced, part))) for part in parts}
        )
    return raw


def shortened(record: TaskRecord) -> TaskRecord:
    """Return a record with less of its errors, its last few tries and its last few iterations."""
    return replace(
        record,
        error=record.error and shrink_error(record.error, _SHORT_ERROR_BYTES),
        traceback=record.traceback and shrink_error(record.traceback, _SHORT_ERROR_BYTES),
        tries=record.tries and record.tries[-_SHORT_LIST:],
        iterations=record.iterations and record.iterations[-_SHORT_LIST:],
    )


def without_records(snapshot: RunSnapshot) -> RunSnapshot:
    """Return the snapshot with its task records dropped and marked as dropped."""
    return replace(snapshot, task_records={}, task_records_truncated=True)


def shown(snapshot: RunSnapshot) -> RunSnapshot:
    """Return the snapshot as it is shown: what was not executed, and will not be, is SKIPPED.

    So is every task that never started once its run has ended.
    """
    over = snapshot.status.terminal
    records = snapshot.task_records
    skipped = [
        name
        for name, state in snapshot.tasks.items()
        if state is TaskState.PENDING
        and (over or (name in records and records[name].skipped is True))
    ]
    if not skipped:
        return snapshot
    return replace(
        snapshot,
        tasks=snapshot.tasks | dict.fromkeys(skipped, TaskState.SKIPPED),
        task_records=records
        | {
            name: replace(records[name], state=TaskState.SKIPPED)
            for name in skipped
            if name in records
        },
    )


def shrink_error(text: str, limit: int) -> str:
    """Return ``text`` in at most ``limit`` bytes of UTF-8, by leaving out its middle; surrogates are escaped.

    The beginning tells what happened and the end of a traceback where, so both are kept, around
    a marker that says how much is missing.
    """
    raw = text.encode("utf-8", "backslashreplace")
    if len(raw) <= limit:
        return raw.decode()
    marker = f"\n… {len(raw) - limit} bytes or more left out …\n".encode()
    keep = limit - len(marker)
    if keep < 2:
        return raw[:limit].decode("utf-8", "ignore")
    head, tail = raw[: keep // 2], raw[len(raw) - (keep - keep // 2) :]
    return (head + marker + tail).decode("utf-8", "ignore")


def with_attempt(snapshot: RunSnapshot, reason: str, error: str | None, now: float) -> RunSnapshot:
    """Return the snapshot with its present attempt among those that are over."""
    usage = snapshot.usage or Usage()
    record = AttemptRecord(
        attempt=snapshot.attempt,
        worker_id=snapshot.worker_id,
        started_at=snapshot.start_time,
        ended_at=now,
        reason=reason,
        error=None if error is None else shrink_error(error, ATTEMPT_ERROR_BYTES),
        peak_memory_bytes=usage.peak_memory_bytes,
        cpu_sec=usage.cpu_sec,
    )
    attempts = [*snapshot.attempts, record][-MAX_ATTEMPT_RECORDS:]
    return replace(snapshot, attempts=attempts, usage=UNSET)
