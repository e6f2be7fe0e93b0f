"""What the read model keeps of a run: what lists show and filters ask for, never its records."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

import msgspec
from msgspec import UNSET, UnsetType

from pyoco_server.api.runs import RunItem
from pyoco_server.jetstream.keyvalue import Entry
from pyoco_server.model.punctuality import EXPIRED, late_moments
from pyoco_server.model.run import (
    Late,
    Moment,
    RunState,
    RunStatus,
    Usage,
    decode_snapshot,
    known,
)


class RunRow(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """One run. Times are unix seconds; "" stands for a tag or tenant that it does not have."""

    run_id: str
    flow: str
    status: RunStatus
    tag: str
    tags: str
    """A JSON list."""
    tenant: str
    api_key_id: str | None
    sha256: str | None
    """Of its flow.yaml."""
    worker_id: str | None
    error: str | None
    attempt: int
    submitted_at: float | None
    start_time: float | None
    end_time: float | None
    heartbeat_at: float | None
    updated_at: float
    """Where the snapshot has none: when it was stored."""
    day: int
    """The local day of ``updated_at`` (proleptic Gregorian ordinal), for "runs today"."""
    seq: int
    """The revision that the bucket holds it under."""
    expires_at: float | None
    """When the bucket forgets it by itself."""
    claimed: int = 0
    """1 where a worker of this version has, or had, it."""
    due_at: float | None = None
    """When it may be claimed, where it waits for that."""
    failed_tasks: str = "[]"
    """A JSON list."""
    stored_at: float = 0.0
    """When the bucket stored it, by the server's clock."""
    scheduled_for: float | None = None
    """When it may start, or might, where that was later than its submission."""
    start_before: float | None = None
    """When it may not start any more."""
    expired: int = 0
    """1 where it had not started by then."""
    late: int = 0
    """1 where its start was late, 2 where its end was, 3 for both."""
    start_late_at: float | None = None
    """When its start will be late; None where it has started, or is late already."""
    end_late_at: float | None = None
    """The same of its end."""
    peak_memory_bytes: int | None = None
    cpu_sec: float | None = None
    """What its latest attempt took, where that has ended."""
    schedule_id: str | None = None
    scheduled_at: float | None = None

    def state(self, now: float) -> RunState:
        """What it is told to be."""
        if self.expired:
            return RunState.EXPIRED
        unclaimed = self.attempt == 0 and self.status is RunStatus.PENDING
        if unclaimed and self.due_at is not None and self.due_at > now:
            return RunState.SCHEDULED
        return RunState(self.status.value)

    def item(self, now: float) -> RunItem:
        """What a list shows of it."""
        return RunItem(
            run_id=self.run_id,
            flow_name=self.flow,
            tag=self.tag or None,
            tags=msgspec.json.decode(self.tags),
            tenant_id=self.tenant or None,
            api_key_id=self.api_key_id,
            status=self.status,
            state=self.state(now),
            updated_at=self.updated_at,
            heartbeat_at=self.heartbeat_at,
            worker_id=self.worker_id,
            error=self.error,
            failed_tasks=msgspec.json.decode(self.failed_tasks),
            submitted_at=self.submitted_at,
            start_time=self.start_time,
            end_time=self.end_time,
            attempt=self.attempt,
            workflow_yaml_sha256=self.sha256,
            scheduled_for=self.scheduled_for,
            expires_at=self.start_before,
            schedule_id=self.schedule_id,
            scheduled_at=self.scheduled_at,
            late=Late(start=bool(self.late & 1), end=self.late > 1) if self.late else None,
        )


COLUMNS: Final = RunRow.__struct_fields__
_MOST_ATTEMPTS: Final = 2**31
_MOST_BYTES: Final = 2**62
_UNKNOWN: Final = Usage()


class _Brief(msgspec.Struct):
    """The part of a snapshot that a row is made of; reading no more is several times faster."""

    flow_name: str
    status: RunStatus
    tag: str | None = None
    tags: list[str] = msgspec.field(default_factory=list)
    tenant_id: str | None = None
    api_key_id: str | None = None
    workflow_yaml_sha256: str | None = None
    worker_id: str | None = None
    error: str | None = None
    attempt: int = 0
    submitted_at: float | None = None
    start_time: float | None = None
    end_time: float | None = None
    heartbeat_at: float | None = None
    updated_at: float | None = None
    worker_instance_id: str | None = None
    next_attempt_at: float | None = None
    reason: str | None = None
    scheduled_for: Moment = None
    expires_at: Moment = None
    expected_start_within_sec: Moment = None
    expected_end_within_sec: Moment = None
    late: Late | UnsetType | None = None
    usage: Usage | UnsetType | None = UNSET
    failed_tasks: list[str] = msgspec.field(default_factory=list)
    schedule_id: str | None = None
    scheduled_at: float | None = None


_DECODER: Final = msgspec.json.Decoder(_Brief)


def row_of(entry: Entry) -> RunRow:
    """Read the row of a stored snapshot.

    Raises:
        UnreadableSnapshot: It is no snapshot.
    """
    try:
        brief = _DECODER.decode(entry.value)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        snapshot = decode_snapshot(entry.value)
        given = {name: getattr(snapshot, name) for name in _Brief.__struct_fields__}
        given = {name: value for name, value in given.items() if value is not UNSET}
        brief = msgspec.convert(given, _Brief, from_attributes=True)
    usage = brief.usage or _UNKNOWN
    peak = usage.peak_memory_bytes
    updated_at = entry.created if brief.updated_at is None else brief.updated_at
    scheduled_for = known(brief.scheduled_for)
    waiting = brief.status is RunStatus.PENDING and brief.attempt == 0
    start_late_at, end_late_at, late = None, None, 0
    if brief.expected_start_within_sec or brief.expected_end_within_sec:
        marks = known(brief.late)
        late = 0 if marks is None else marks.start + 2 * marks.end
        if not brief.status.terminal:
            start_late_at, end_late_at = late_moments(
                scheduled_for or brief.submitted_at,
                marks,
                known(brief.expected_start_within_sec) if waiting else None,
                known(brief.expected_end_within_sec),
            )
    return RunRow(
        run_id=entry.key,
        flow=brief.flow_name,
        status=brief.status,
        tag=brief.tag or "",
        tags=msgspec.json.encode(brief.tags).decode(),
        tenant=brief.tenant_id or "",
        api_key_id=brief.api_key_id,
        sha256=brief.workflow_yaml_sha256,
        worker_id=brief.worker_id,
        error=brief.error,
        attempt=min(max(brief.attempt, 0), _MOST_ATTEMPTS),
        submitted_at=brief.submitted_at,
        start_time=brief.start_time,
        end_time=brief.end_time,
        heartbeat_at=brief.heartbeat_at,
        updated_at=updated_at,
        day=local_day(updated_at),
        seq=entry.revision,
        expires_at=entry.expires_at,
        claimed=int(brief.worker_instance_id is not None),
        due_at=scheduled_for if waiting and scheduled_for else brief.next_attempt_at,
        failed_tasks=msgspec.json.encode(brief.failed_tasks).decode()
        if brief.failed_tasks
        else "[]",
        stored_at=entry.created,
        scheduled_for=scheduled_for,
        start_before=known(brief.expires_at),
        expired=int(brief.status is RunStatus.FAILED and brief.reason == EXPIRED),
        late=late,
        start_late_at=start_late_at,
        end_late_at=end_late_at,
        peak_memory_bytes=None if peak is None else min(max(peak, 0), _MOST_BYTES),
        cpu_sec=usage.cpu_sec,
        schedule_id=brief.schedule_id,
        scheduled_at=brief.scheduled_at,
    )


def to_row(values: Sequence[object]) -> RunRow:
    """The row of what SQLite gives for `COLUMNS`."""
    return msgspec.convert(values, RunRow)


def local_day(moment: float) -> int:
    """The local day of a moment in unix seconds; 0 for one that no calendar has."""
    try:
        return datetime.fromtimestamp(moment).toordinal()  # noqa: DTZ006 - the local day is meant
    except (ValueError, OverflowError, OSError):
        return 0
