"""What the child of a slot says, told as events of the run that it executes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeAlias

import structlog
import trio
from msgspec import UNSET, UnsetType
from msgspec.structs import asdict

from pyoco_server.model.event import (
    ERROR_BYTES,
    FlowShape,
    LogChunk,
    OutputTruncated,
    ProgressReport,
    TaskChange,
)
from pyoco_server.model.run import TaskRecord, TaskState, shrink_error
from pyoco_server.store.journal import Journal
from pyoco_server.worker.runner.handle import Exited
from pyoco_server.worker.runner.protocol import (
    ChildMessage,
    FlowFinished,
    FlowStarted,
    Output,
    ProgressMade,
    TaskChanged,
)

log = structlog.get_logger(__name__)

OutputSink: TypeAlias = Callable[[Output, int], None]

# Of a chunk; JSON may need six bytes for a character, and a message has to hold it.
_CHUNK_CHARACTERS = 8192
# How long output may hold up the child when events cannot be stored, before some of it is left out.
_PATIENCE_SECONDS = 1.0
# Reports of progress of an attempt that are told as events; its snapshot has the latest in any case.
_MOST_REPORTS = 10_000


class AttemptEvents:
    """Tells the events of one attempt after the other; what belongs to none is only logged.

    Args:
        limit_bytes: How much of an attempt's output is kept.
        output: Called with all output as well.
    """

    def __init__(
        self, journal: Journal, slot: int, limit_bytes: int, output: OutputSink | None = None
    ) -> None:
        self._journal = journal
        self._slot = slot
        self._limit = limit_bytes
        self._output = output
        self._run_id: str | None = None
        self._attempt = 0
        self._seq = 0
        self._kept = 0
        self._left_out = 0
        self._reports = 0
        self._patient = True

    def begin(self, run_id: str, attempt: int) -> None:
        """What the child says of this run from now on belongs to this attempt."""
        self._run_id, self._attempt = run_id, attempt
        self._seq = self._kept = self._left_out = self._reports = 0
        self._patient = True

    async def room(self) -> None:
        """Wait for room among the events that are not stored yet, a second at most; so the child waits too.

        Once that was in vain, it does not wait again before there was room; output is left out meanwhile.
        """
        if not self._journal.full:
            self._patient = True
        elif self._patient:
            self._patient = False
            with trio.move_on_after(_PATIENCE_SECONDS):
                await self._journal.room()

    def take(self, event: ChildMessage | Exited) -> None:
        """Tell what the child said."""
        if isinstance(event, Output):
            self._show(event)
        run_id = self._run_id
        if run_id is None:
            return
        match event:
            case Exited():
                self._end(0)
            case Output() if event.run_id == run_id:
                self._log(run_id, event)
            case FlowStarted() if event.run_id == run_id and event.structure is not None:
                shape = FlowShape(at=time.time(), attempt=self._attempt, structure=event.structure)
                self._journal.add(run_id, shape)
            case TaskChanged() if event.run_id == run_id:
                self._journal.add(run_id, self._task(event))
            case ProgressMade() if event.run_id == run_id and self._reports < _MOST_REPORTS:
                for task, made in event.progress.items():
                    self._reports += 1
                    report = ProgressReport(attempt=self._attempt, task=task, **asdict(made))
                    self._journal.add(run_id, report)
            case FlowFinished() if event.run_id == run_id:
                self._end(event.output_left_out)
            case _:
                pass

    def _show(self, output: Output) -> None:
        if self._output is not None:
            self._output(output, self._slot)
        elif output.run_id is None:
            log.info("output of no run", slot=self._slot, text=output.text)

    def _task(self, change: TaskChanged) -> TaskChange:
        record = change.record
        # A task that succeeded at last still has that of the try before.
        traceback = None if record.state is TaskState.SUCCEEDED else record.traceback
        return TaskChange(
            at=change.at,
            attempt=self._attempt,
            task=change.name,
            state=TaskState.SKIPPED if record.skipped is True else record.state,
            error=None if record.error is None else shrink_error(record.error, ERROR_BYTES),
            traceback=None if traceback is None else shrink_error(traceback, ERROR_BYTES),
            duration_ms=record.duration_ms,
            try_number=_try_number(record),
        )

    def _log(self, run_id: str, output: Output) -> None:
        if self._journal.full:
            self._cut(run_id, len(output.text.encode()))
            return
        for start in range(0, len(output.text), _CHUNK_CHARACTERS):
            text = output.text[start : start + _CHUNK_CHARACTERS]
            encoded = text.encode()
            room = self._limit - self._kept
            kept = text if len(encoded) <= room else encoded[:room].decode(errors="ignore")
            if kept:
                chunk = LogChunk(
                    at=output.at,
                    attempt=self._attempt,
                    task=output.task,
                    stream=output.stream,
                    text=kept,
                    seq=self._seq,
                )
                self._journal.add(run_id, chunk)
                self._seq += 1
            if kept is not text:
                self._cut(run_id, len(encoded) - len(kept.encode()))
                self._kept = self._limit
            else:
                self._kept += len(encoded)

    def _cut(self, run_id: str, size: int) -> None:
        if not self._left_out:
            self._tell_cut(run_id, None)
        self._left_out += size

    def _end(self, left_out_by_child: int) -> None:
        """The attempt says nothing more."""
        left_out = self._left_out + left_out_by_child
        if self._run_id is not None and left_out:
            self._tell_cut(self._run_id, left_out)
        self._run_id = None

    def _tell_cut(self, run_id: str, size: int | None) -> None:
        cut = OutputTruncated(
            at=time.time(), attempt=self._attempt, left_out_bytes=size, limit_bytes=self._limit
        )
        self._journal.add(run_id, cut)


def _try_number(record: TaskRecord) -> int | UnsetType:
    if not record.tries:  # not said, or none that has ended
        return UNSET
    last = record.tries[-1].number
    return last if record.state.terminal else last + 1
