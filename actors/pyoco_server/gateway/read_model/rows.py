"""What the read model keeps of a run: what lists show and filters ask for, never its records."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

import msgspec

from pyoco_server.api.runs import RunItem
from pyoco_server.jetstream.keyvalue import Entry
from pyoco_server.model.run import RunStatus, decode_snapshot


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
    """When it may be claimed again, where it waits for that."""
    stored_at: float = 0.0
    """When the bucket stored it, by the server's clock."""

    def item(self) -> RunItem:
        """What a list shows of it."""
        return RunItem(
            run_id=self.run_id,
            flow_name=self.flow,
            tag=self.tag or None,
            tags=msgspec.json.decode(self.tags),
            tenant_id=self.tenant or None,
            api_key_id=self.api_key_id,
            status=self.status,
            updated_at=self.updated_at,
            heartbeat_at=self.heartbeat_at,
            worker_id=self.worker_id,
            error=self.error,
            submitted_at=self.submitted_at,
            start_time=self.start_time,
            end_time=self.end_time,
            attempt=self.attempt,
            workflow_yaml_sha256=self.sha256,
        )


COLUMNS: Final = RunRow.__struct_fields__
_MOST_ATTEMPTS: Final = 2**31


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


_DECODER: Final = msgspec.json.Decoder(_Brief)


def row_of(entry: Entry) -> RunRow:
    """Read the row of a stored snapshot.

    Raises:
        UnreadableSnapshot: It is no snapshot.
    """
    try:
        brief = _DECODER.decode(entry.value)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        brief = msgspec.convert(decode_snapshot(entry.value), _Brief, from_attributes=True)
    updated_at = entry.created if brief.updated_at is None else brief.updated_at
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
        attempt=min(brief.attempt, _MOST_ATTEMPTS),
        submitted_at=brief.submitted_at,
        start_time=brief.start_time,
        end_time=brief.end_time,
        heartbeat_at=brief.heartbeat_at,
        updated_at=updated_at,
        day=local_day(updated_at),
        seq=entry.revision,
        expires_at=entry.expires_at,
        claimed=int(brief.worker_instance_id is not None),
        due_at=brief.next_attempt_at,
        stored_at=entry.created,
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
