"""Task records as they are sent: JSON, of a size that cannot hurt anyone."""

from __future__ import annotations

import re
import threading
from typing import Any, Final

from msgspec.structs import replace
from pyoco.core.models import TaskRecord as EngineRecord

from pyoco_server.model.json_text import JSON, encode_json, json_safe
from pyoco_server.model.run import TaskRecord, TaskState, shrink_error

ERROR_BYTES = 16 * 1024
"""What is kept of one error's text, and of one traceback."""


_MERE_VALUE: Final = re.compile(r"""(?s)(['"]).*\1|\(.*\)|[-\d.]*""")
"""What an error "says" that was only given a value, such as a KeyError."""


def with_kind(text: str, kind: str) -> str:
    """Return what an error says, with its kind in front where it would say nothing without."""
    return f"{kind}: {text}".rstrip(": ") if _MERE_VALUE.fullmatch(text) else text


def _task_error(record: EngineRecord) -> str | None:
    """The same of a task, of whose error the engine keeps the text and the traceback."""
    text = record.error
    if text is None or not _MERE_VALUE.fullmatch(text):
        return error_text(text)
    last = f"\n([\\w.]+){re.escape(f': {text}' if text else '')}(?:\n|$)"
    kinds = re.findall(last, record.traceback or "")
    return error_text(with_kind(text, kinds[-1].rpartition(".")[2]) if kinds else text)


def error_text(text: str | None) -> str | None:
    """Return an error's text as it is sent."""
    if text is None:
        return None
    return shrink_error(str(json_safe(text)), ERROR_BYTES)


class RecordBook:
    """Makes the records of one run out of the engine's, from any thread.

    A value of more than ``value_limit`` bytes, or one that does not fit into what
    ``total_limit`` leaves, is replaced by a text that tells its size.
    """

    def __init__(self, value_limit: int, total_limit: int) -> None:
        self._value_limit = value_limit
        self._left = total_limit
        self._lock = threading.Lock()
        self._sizes: dict[str, int] = {}
        self._ended: dict[str, tuple[EngineRecord, float | None, TaskRecord]] = {}

    def running(self, record: EngineRecord) -> TaskRecord:
        """Return the record of a task that starts, or is tried again."""
        return TaskRecord(
            state=TaskState.RUNNING,
            started_at=record.started_at,
            error=_task_error(record),
            traceback=error_text(record.traceback),
        )

    def ended(self, name: str, record: EngineRecord, state: TaskState) -> TaskRecord:
        """Return the record of a task that ended or never started.

        Its values are looked at once for each time that the task ended.
        """
        with self._lock:
            known = self._ended.get(name)
            if known is not None and known[0] is record and known[1] == record.ended_at:
                return replace(known[2], state=state)
            made = self._make(name, record, state)
            self._ended[name] = (record, record.ended_at, made)
            return made

    def _make(self, name: str, record: EngineRecord, state: TaskState) -> TaskRecord:
        self._left += self._sizes.pop(name, 0)
        room = self._left
        inputs = self._bounded(record.inputs, "inputs")
        output = self._bounded(record.output, "output")
        artifacts = self._bounded(record.artifacts, "artifacts")
        self._sizes[name] = room - self._left
        return TaskRecord(
            state=state,
            started_at=record.started_at,
            ended_at=record.ended_at,
            duration_ms=record.duration_ms,
            error=_task_error(record),
            traceback=error_text(record.traceback),
            inputs=_mapping(inputs),
            output=output,
            artifacts=_mapping(artifacts),
        )

    def _bounded(self, value: object, what: str) -> JSON:
        safe = json_safe(value)
        size = len(encode_json(safe))
        limit = min(self._value_limit, self._left)
        if size <= limit:
            self._left -= size
            return safe
        if isinstance(safe, dict) and what != "output":
            # Of several inputs, mostly one is large; the others are worth to be kept.
            return {key: self._bounded(item, "output") for key, item in safe.items()}
        return f"<{size} bytes of JSON, left out: at most {limit} are kept here>"


def _mapping(value: JSON) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
