"""Task records as they are sent: JSON, of a size that cannot hurt anyone."""

from __future__ import annotations

import math
import os
import threading
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Final

from msgspec import UNSET, UnsetType
from msgspec.structs import replace
from pyoco.core.models import TaskRecord as EngineRecord

from pyoco_server.model.json_text import JSON, MAX_VALUES, Conversion, encode_json, json_safe
from pyoco_server.model.result import FOLDER, ResultNote, file_name
from pyoco_server.model.run import TaskRecord, TaskState, shortened, shrink_error
from pyoco_server.model.value_forms import Formed, with_forms
from pyoco_server.worker.runner.engine.task_record import LiveRecord
from pyoco_server.worker.runner.protocol import Limits

ERROR_BYTES = 16 * 1024
"""What is kept of one error's text, and of one traceback."""

# A value of so many bytes is better in its record than a file of its own.
_SMALL_BYTES: Final = 1_000
# What a record has beside its values, and a snapshot beside its params and records.
_RECORD_BYTES: Final = 200
_SNAPSHOT_BYTES: Final = 4_096
_WRITE: Final = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC


def error_text(text: str) -> str:
    """Return an error's text as it is sent."""
    return shrink_error(str(json_safe(text)), ERROR_BYTES)


class ResultFiles:
    """Writes results of one run that are too large for its records, as files that the worker keeps.

    What is not written is missed by the worker when the flow has ended, which says so.

    Args:
        workdir: The working folder of the run; None for a run without one, of which nothing is kept.
        most_bytes: How many one result may have.
        total_bytes: How many all of them may have.
    """

    def __init__(self, workdir: str | None, most_bytes: int, total_bytes: int) -> None:
        self.most_bytes = most_bytes
        self._workdir = workdir
        self._left = total_bytes
        self._sizes: dict[str, int] = {}

    def keep(self, task: str, raw: bytes) -> None:
        """Write the latest result of a task, if there is room for it; nothing of an earlier one stays."""
        if self._workdir is None:
            return
        folder = Path(self._workdir) / FOLDER
        path = folder / file_name(task)
        if (size := self._sizes.pop(task, None)) is not None:
            self._left += size
            with suppress(OSError):
                path.unlink()
        if len(raw) > min(self.most_bytes, self._left):
            return
        with suppress(OSError), ExitStack() as undo:
            folder.mkdir(exist_ok=True)
            undo.callback(path.unlink, missing_ok=True)
            with os.fdopen(os.open(path, _WRITE, 0o600), "wb") as file:
                file.write(raw)
            undo.pop_all()
            self._left -= len(raw)
            self._sizes[task] = len(raw)


class RecordBook:
    """Makes the records of one run out of the engine's, from any thread.

    A value that is larger than one may be, or than what is left for all of them, is replaced by a text that
    tells its size; one that is not small also where the snapshot has no room for it, which else would lose
    all records.

    Args:
        limits: How much is kept.
        workdir: The run's, where results go that are too large; None for a run without one.
        params: The run's, which its snapshot has as well.
    """

    def __init__(self, limits: Limits, workdir: str | None, params: object) -> None:
        self._files = ResultFiles(workdir, limits.result_bytes, limits.results_bytes)
        self._value_limit = limits.value_bytes
        self._total = self._left = limits.values_bytes
        self._room = math.inf  # of all records
        if limits.snapshot_bytes:
            self._room = limits.snapshot_bytes - _SNAPSHOT_BYTES - len(encode_json(params))
        self._lock = threading.Lock()
        self._sizes: dict[str, int] = {}
        self._ended: dict[str, tuple[EngineRecord, float | None, TaskRecord]] = {}

    def running(self, record: EngineRecord) -> TaskRecord:
        """Return the record of a task that starts, or is tried again."""
        return TaskRecord(
            state=TaskState.RUNNING,
            started_at=record.started_at,
            error=record.error and error_text(record.error),
            traceback=record.traceback and error_text(record.traceback),
            **_times(record),
        )

    def ended(self, name: str, record: EngineRecord, state: TaskState) -> TaskRecord:
        """Return the record of a task that ended or never started.

        Its values are looked at once for each time that the task ended.
        """
        with self._lock:
            known = self._ended.get(name)
            if known is not None and known[0] is record and known[1] == record.ended_at:
                return known[2] if known[2].state is state else replace(known[2], state=state)
            made = self._make(name, record, state)
            self._ended[name] = (record, record.ended_at, made)
            return made

    def _make(self, name: str, record: EngineRecord, state: TaskState) -> TaskRecord:
        self._left += self._sizes.pop(name, 0)
        room = self._left
        bare = self.running(record)
        if bare.error or bare.tries or bare.iterations:
            # Where the snapshot has no room for all of it, so much is kept.
            self._left -= len(encode_json(shortened(bare)))
        inputs = self._mapping(record.inputs)
        output, result = self._output(name, record.output)
        artifacts = self._mapping(record.artifacts)
        self._sizes[name] = room - self._left
        return replace(
            bare,
            state=state,
            ended_at=record.ended_at,
            duration_ms=record.duration_ms,
            inputs=inputs,
            output=output,
            artifacts=artifacts,
            result=result,
        )

    def _output(self, name: str, value: object) -> tuple[JSON, ResultNote | UnsetType]:
        """What a record tells of a task's result."""
        if value is None:
            return None, UNSET
        first = Conversion()
        safe = first.convert(value)
        raw = encode_json(safe)
        output = self._fitting(safe, len(raw))
        if first.exact and output is safe:
            return output, UNSET
        # To be kept, none can have more: each takes two bytes at least.
        most = max(MAX_VALUES, self._files.most_bytes // 2)
        formed = None if first.exact else with_forms(value, max_values=most)
        if formed is not None:
            if output is safe and formed == Formed(safe, None):
                return output, UNSET
            raw = encode_json(formed.value)
        note = ResultNote(size_bytes=len(raw), cut=formed.cut if formed is not None else None)
        if formed is not None and len(raw) <= self._limit(len(raw)):
            self._left -= len(raw)
            return output, replace(note, value=formed.value)
        self._files.keep(name, raw)
        return output, note

    def _mapping(self, values: dict[str, Any]) -> dict[str, Any]:
        """What a record tells of a task's inputs or artifacts."""
        if not values:
            return {}
        safe = json_safe(values)
        if not isinstance(safe, dict):
            return {}
        if self._fitting(safe, len(encode_json(safe))) is safe:
            return safe
        # Of several inputs, mostly one is large; the others are worth to be kept.
        return {key: self._fitting(item, len(encode_json(item))) for key, item in safe.items()}

    def _fitting(self, safe: JSON, size: int) -> JSON:
        """A value where there is room for it, or the text that tells its size."""
        limit = self._limit(size)
        if size <= limit:
            self._left -= size
            return safe
        return f"<{size} bytes of JSON, left out: at most {limit} are kept here>"

    def _limit(self, size: int) -> int:
        """Return how many bytes a value may have that has so many."""
        limit = max(0, min(self._value_limit, self._left))
        if size <= _SMALL_BYTES:
            return limit
        taken = self._total - self._left + _RECORD_BYTES * len(self._ended)
        return int(max(0, min(limit, self._room - taken)))


def _times(record: EngineRecord) -> dict[str, Any]:
    """What there is to tell of tries, of loops and of being left out; mostly nothing."""
    told: dict[str, Any] = {}
    if isinstance(record, LiveRecord):
        if record.tries:
            told["tries"] = list(record.tries)
        if record.iterations:
            told["iterations"] = list(record.iterations)
            told["iteration_counts"] = record.iteration_counts
        if record.skipped:
            told["skipped"] = True
    return told
