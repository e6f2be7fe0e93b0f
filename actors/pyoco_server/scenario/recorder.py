"""Makes a scenario of what happened on a live system, read from its buckets and streams."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, Final

from msgspec.structs import replace

from pyoco_server.jetstream.connection import Connection
from pyoco_server.jetstream.consumer import Message
from pyoco_server.jetstream.errors import NotFound
from pyoco_server.jetstream.follow import Follower
from pyoco_server.jetstream.keyvalue import KeyValue
from pyoco_server.model.dead_letter import (
    DeadLetterReason,
    UnreadableDeadLetter,
    decode_dead_letter,
)
from pyoco_server.model.event import StateChanged, UnreadableEvents, decode_events
from pyoco_server.model.life import CANCELLED, LOST, WORKER_STOPPED
from pyoco_server.model.run import RunSnapshot, RunStatus, decode_snapshot
from pyoco_server.model.worker import (
    WorkerRecord,
    WorkerState,
    decode_worker,
    effective_state,
)
from pyoco_server.scenario.document import Cast, Scenario, ScenarioError, WorkerPart
from pyoco_server.scenario.recording import (
    RecordedRun,
    RecordedState,
    RecordedWorker,
    Recording,
)
from pyoco_server.scenario.steps import Expect, Publish, Step
from pyoco_server.settings import Settings
from pyoco_server.store.entries import readable

_MOST_SLOTS = 64
_REDACTED: Final = "redacted"
# Words of our own. Anything else was written by somebody, such as the sender of a cancel.
_OWN_WORDS: Final[set[str]] = {*DeadLetterReason, CANCELLED, LOST, WORKER_STOPPED}


async def record(
    connection: Connection, settings: Settings, *, since: float, now: float, redact: bool
) -> Scenario:
    """Read what happened since a moment.

    Args:
        connection: To the live system.
        settings: Names of its buckets and streams.
        since: Runs that changed after this are taken, whole; unix seconds.
        now: Unix seconds.
        redact: Leave out what people wrote: values of params, reasons that senders of cancels gave, and
            messages that were no jobs. Who cancelled and texts of errors are never recorded.

    Raises:
        ScenarioError: There is nothing to record.
        BridgeError: NATS cannot be asked.
    """
    snapshots = [
        snapshot
        for snapshot in await readable(
            KeyValue(connection, settings.runs_kv_bucket),
            lambda entry: decode_snapshot(entry.value),
        )
        if (snapshot.updated_at or 0.0) >= since
    ]
    if not snapshots:
        raise ScenarioError("no run changed in that time; a longer --last takes more")
    states = await _states(connection, settings)
    began = min(_submitted(snapshot) for snapshot in snapshots)
    runs = [
        RecordedRun(
            run=snapshot.run_id,
            flow=snapshot.flow_name,
            tag=_name(snapshot.tag or next(iter(snapshot.tags), "hello")),
            params=snapshot.params,
            states=_told(snapshot, states.get(snapshot.run_id, []), began),
        )
        for snapshot in sorted(snapshots, key=_submitted)
    ]
    if redact:
        runs = [redact_run(run) for run in runs]
    workers = await readable(
        KeyValue(connection, settings.workers_kv_bucket), lambda entry: decode_worker(entry.value)
    )
    parts, moves = _cast(workers, runs, began, now, settings.worker_disconnect_timeout_sec)
    poison = await _poison(connection, settings, began, redact=redact)
    counts = Counter(run.final.value for run in runs)
    steps = [Step(replay=Recording(runs=runs, workers=moves)), *poison]
    steps.append(Step(expect=Expect(runs=len(runs), counts=dict(sorted(counts.items())))))
    if poison:
        letters = {DeadLetterReason.INVALID_JOB.value: len(poison)}
        steps.append(Step(expect=Expect(letters=letters)))
    if all(run.final.terminal for run in runs):
        steps.append(Step(expect=Expect(invariants=["I1", "I2", "I3", "I5", "I7"])))
    about = f"Recorded: {len(runs)} runs in {now - began:.0f} s, {len(parts)} workers."
    return Scenario(name="recorded", about=about, cast=Cast(workers=parts), steps=steps)


async def _messages(
    connection: Connection, stream: str, subject: str
) -> AsyncGenerator[Message, None]:
    """What a stream holds now; nothing where there is no such stream."""
    follower = Follower(connection, stream, subject, start="all")
    try:
        async with aclosing(follower.messages()) as messages:
            async for message in messages:
                if not isinstance(message, Message):
                    return
                yield message
    except NotFound:
        return


async def _states(connection: Connection, settings: Settings) -> dict[str, list[StateChanged]]:
    """What the event stream tells of runs, in the order of the revisions."""
    found: dict[str, dict[int, StateChanged]] = defaultdict(dict)
    prefix = settings.events_subject_prefix
    async with aclosing(_messages(connection, settings.events_stream, f"{prefix}.>")) as messages:
        async for message in messages:
            try:
                events = decode_events(message.data)
            except UnreadableEvents:
                continue
            run_id = message.subject.removeprefix(f"{prefix}.")
            for event in events:
                if isinstance(event, StateChanged):
                    found[run_id].setdefault(event.revision, event)
    return {run_id: [told[at] for at in sorted(told)] for run_id, told in found.items()}


async def _poison(
    connection: Connection, settings: Settings, began: float, *, redact: bool
) -> list[Step]:
    """The messages that were no jobs."""
    found = []
    subject = f"{settings.dlq_subject_prefix}.>"
    async with aclosing(_messages(connection, settings.dlq_stream, subject)) as messages:
        async for message in messages:
            try:
                letter = decode_dead_letter(message.data)
            except UnreadableDeadLetter:
                continue
            if letter.reason == DeadLetterReason.INVALID_JOB and letter.timestamp >= began:
                text = "poison" if redact else letter.payload or "poison"
                tag = letter.tag or (letter.subject or "").rpartition(".")[2] or "hello"
                found.append(Step(publish=Publish(tag=_name(tag), text=text)))
    return found


def _submitted(snapshot: RunSnapshot) -> float:
    return snapshot.submitted_at or snapshot.start_time or snapshot.updated_at or 0.0


def _told(snapshot: RunSnapshot, events: list[StateChanged], began: float) -> list[RecordedState]:
    """The states of a run: as the event stream tells them, else what its snapshot still knows."""

    def state(
        at: float, status: RunStatus, attempt: int, *, worker: str | None = None, **more: Any
    ) -> RecordedState:
        return RecordedState(
            at=round(max(0.0, at - began), 3),
            status=status,
            attempt=attempt,
            worker=None if worker is None else _name(worker),  # as the cast has it
            **more,
        )

    told = [
        state(each.at, each.status, each.attempt, worker=each.worker_id, reason=each.reason)
        for each in events
    ]
    if not told or told[0].status is not RunStatus.PENDING:
        told.insert(0, state(_submitted(snapshot), RunStatus.PENDING, 0))
    if len(told) == 1:
        worker = snapshot.worker_id
        if snapshot.start_time is not None and snapshot.status is not RunStatus.PENDING:
            attempt = max(1, snapshot.attempt)
            told.append(state(snapshot.start_time, RunStatus.RUNNING, attempt, worker=worker))
        if snapshot.cancel_requested_at is not None:
            at = snapshot.cancel_requested_at
            told.append(state(at, RunStatus.CANCELLING, snapshot.attempt, worker=worker))
    if told[-1].status is not snapshot.status:
        at = snapshot.end_time or snapshot.updated_at or began
        reason = snapshot.reason
        told.append(
            state(at, snapshot.status, snapshot.attempt, worker=snapshot.worker_id, reason=reason)
        )
    return told


def _cast(
    workers: list[WorkerRecord],
    runs: list[RecordedRun],
    began: float,
    now: float,
    disconnect_timeout: float,
) -> tuple[list[WorkerPart], list[RecordedWorker]]:
    """Who executed the runs, or was there and could have."""
    used = {state.worker for run in runs for state in run.states}
    parts: list[WorkerPart] = []
    moves: list[RecordedWorker] = []
    for record_ in sorted(workers, key=lambda each: each.worker_id):
        state = effective_state(record_, now, disconnect_timeout)
        left = record_.stopped_at or record_.last_seen_at
        worker_id = _name(record_.worker_id)
        if worker_id not in used and not (state.active or left >= began):
            continue
        slots = min(max(1, len(record_.slots)), _MOST_SLOTS)
        tags = [_name(tag) for tag in record_.tags] or ["hello"]
        parts.append(WorkerPart(id=worker_id, tags=tags, slots=slots))
        if not state.active:
            at = round(max(0.0, left - began), 3)
            lost = state is WorkerState.DISCONNECTED
            moves.append(RecordedWorker(at=at, id=worker_id, what="lost" if lost else "stopped"))
    return parts, moves


def _name(text: str) -> str:
    """A name as scenarios take it."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", text) or "_"


def redact_run(run: RecordedRun) -> RecordedRun:
    """Leave of params their names, and of reasons those that are words of pyoco-server's own."""
    return replace(
        run,
        params=dict.fromkeys(run.params, _REDACTED),
        states=[
            state if state.reason in {None, *_OWN_WORDS} else replace(state, reason=_REDACTED)
            for state in run.states
        ],
    )
