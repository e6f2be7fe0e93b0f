"""The events of a run: what is told of it while it happens, and kept to be read afterwards.

A message of the event stream holds a JSON list of events, in order. A reader skips a ``type`` that it does
not know. Times are unix seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, TypeAlias, cast, get_args

import msgspec
from msgspec import UNSET, UnsetType

from pyoco_server.model.errors import ModelError
from pyoco_server.model.flow.structure import GraphStructure
from pyoco_server.model.run import (
    Late,
    RunSnapshot,
    RunStatus,
    TaskState,
    known,
    shrink_error,
)

ERROR_BYTES: Final = 4096
"""What an event keeps of an error's text, and of a traceback; the run's record has more."""

StreamName: TypeAlias = Literal["stdout", "stderr"]


class UnreadableEvents(ModelError):
    """Bytes that are no list of events."""


class _Event(msgspec.Struct, frozen=True, kw_only=True, tag_field="type"):
    """What every event has."""

    at: float
    """When it happened."""
    attempt: int = 0
    """Which attempt at the run it belongs to; 0 before the first."""
    id: str | UnsetType = UNSET
    """Its cursor. This and the following are told to those who read it, and not stored."""
    run_id: str | UnsetType = UNSET
    """Where it is told by itself: of which run."""
    ts: float | UnsetType = UNSET
    """Likewise: when it was told."""


class StateChanged(_Event, frozen=True, kw_only=True, tag="state"):
    """The run's status, or who holds it, changed; told by whoever won the write."""

    status: RunStatus
    revision: int
    """The revision of the snapshot: rises with each change, whoever wrote it."""
    worker_id: str | None = None
    reason: str | None = None
    """Why the run ended as it did, for programs; of a cancel, what its sender gave as the reason."""
    error: str | None = None
    by: str | None = None
    """Who asked for the cancel."""


class TaskChange(_Event, frozen=True, kw_only=True, tag="task"):
    """A task started, is tried again, or ended."""

    task: str
    state: TaskState
    error: str | None = None
    traceback: str | None = None
    """Of a task that FAILED, where."""
    duration_ms: float | None = None
    try_number: int | UnsetType = UNSET
    """Of a task that may be tried again: which try it is."""


class LogChunk(_Event, frozen=True, kw_only=True, tag="log"):
    """What was printed: whole lines, as a rule."""

    task: str | None
    """None for what belongs to no task, such as the output of a process that the flow started."""
    stream: StreamName
    text: str
    seq: int
    """Which chunk of its attempt, from 0 on."""


class ProgressReport(_Event, frozen=True, kw_only=True, tag="progress"):
    """How far a task is, as it says."""

    task: str
    done: float | None = None
    total: float | None = None
    message: str | None = None


class FlowShape(_Event, frozen=True, kw_only=True, tag="flow"):
    """What the flow looks like, as the process that executes it found it."""

    structure: GraphStructure


class OutputTruncated(_Event, frozen=True, kw_only=True, tag="truncated"):
    """Output was left out, because of its size or because it could not be stored in time."""

    left_out_bytes: int | None
    """How much; None while the attempt goes on."""
    limit_bytes: int
    """How much is kept of one attempt (PYOCO_EVENTS_RUN_MAX_BYTES), or given of the last lines."""


class RunLate(_Event, frozen=True, kw_only=True, tag="late"):
    """The run has not started, or not ended, by when that was expected."""

    what: Literal["start", "end"]
    expected_at: float
    """By when."""


Event: TypeAlias = (
    StateChanged | TaskChange | LogChunk | ProgressReport | FlowShape | OutputTruncated | RunLate
)

EventType: TypeAlias = Literal["state", "task", "log", "progress", "flow", "truncated", "late"]
EVENT_TYPES: Final = get_args(EventType)
EVENT_KINDS: Final[Mapping[str, type[Event]]] = dict(zip(EVENT_TYPES, get_args(Event), strict=True))

# Checkers take the types of decoders from classes only, not from unions.
_EVENT: msgspec.json.Decoder[Event] = msgspec.json.Decoder(Event)
_LIST: Final = msgspec.json.Decoder(list[msgspec.Raw])


class _Typed(msgspec.Struct):
    type: str


def state_changed(snapshot: RunSnapshot, revision: int, *, at: float) -> StateChanged:
    """Return the event of a snapshot that was just stored."""
    cancelling = snapshot.status is RunStatus.CANCELLING
    # As long as it waits, other things of it may change.
    changed_at = snapshot.submitted_at if is_first(snapshot) else snapshot.updated_at
    return StateChanged(
        at=changed_at or snapshot.updated_at or at,
        attempt=snapshot.attempt,
        status=snapshot.status,
        revision=revision,
        worker_id=snapshot.worker_id,
        reason=snapshot.cancel_reason if cancelling else snapshot.reason,
        error=None if snapshot.error is None else shrink_error(snapshot.error, ERROR_BYTES),
        by=snapshot.cancel_requested_by if cancelling else None,
    )


def type_of(event: Event) -> EventType:
    """Return its type, as it is called on the wire."""
    return cast(EventType, event.__struct_config__.tag)


def lateness(before: RunSnapshot, snapshot: RunSnapshot, *, at: float) -> list[RunLate]:
    """Return the events of what a snapshot that was just stored is late with, and was not before."""
    was, late = known(before.late) or Late(), known(snapshot.late) or Late()
    due = known(before.scheduled_for) or before.submitted_at or 0.0
    attempt = before.attempt
    found: list[RunLate] = []
    if late.start and not was.start:
        expected_at = due + (known(before.expected_start_within_sec) or 0.0)
        found.append(RunLate(at=at, attempt=attempt, what="start", expected_at=expected_at))
    if late.end and not was.end:
        expected_at = due + (known(before.expected_end_within_sec) or 0.0)
        found.append(RunLate(at=at, attempt=attempt, what="end", expected_at=expected_at))
    return found


def is_first(state: RunSnapshot | StateChanged) -> bool:
    """Whether it is the state that a run is submitted in, and leaves but once."""
    return state.status is RunStatus.PENDING and state.attempt == 0


def join_events(encoded: list[bytes]) -> bytes:
    """Write a message of events that are written already."""
    return b"[" + b",".join(encoded) + b"]"


def decode_events(raw: bytes) -> list[Event | None]:
    """Read a message; None stands for an event that this version does not know.

    Raises:
        UnreadableEvents: It is no list of events.
    """
    events: list[Event | None] = []
    try:
        for item in _LIST.decode(raw):
            known = msgspec.json.decode(item, type=_Typed).type in EVENT_TYPES
            events.append(_EVENT.decode(item) if known else None)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise UnreadableEvents(f"events cannot be understood: {error}") from None
    return events
