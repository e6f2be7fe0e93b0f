"""Which events a reader of logs wants, and the last lines of them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from msgspec.structs import replace as changed

from pyoco_server.gateway.event_reader import StoredEvent
from pyoco_server.model.event import Event, LogChunk, OutputTruncated

MOST_BYTES: Final = 4 * 1024 * 1024
"""How many bytes the last lines may have: those of 10,000 are long, but a line may never end."""
# What an event needs beside its text.
_EVENT_BYTES: Final = 200


@dataclass(frozen=True, slots=True)
class LogFilter:
    """What is wanted; None is everything.

    Attributes:
        task: Output of this task.
        stream: What was printed there, ``stdout`` or ``stderr``.
        attempt: Output of this attempt.
        since: What was printed then or later, in unix seconds.
    """

    task: str | None = None
    stream: str | None = None
    attempt: int | None = None
    since: float | None = None

    def takes(self, event: Event) -> bool:
        """Whether it is log output that is wanted, or tells that some of it was left out."""
        if not isinstance(event, LogChunk | OutputTruncated):
            return False
        if self.attempt not in (None, event.attempt):
            return False
        if self.since is not None and event.at < self.since:
            return False
        return isinstance(event, OutputTruncated) or (
            self.task in (None, event.task) and self.stream in (None, event.stream)
        )


class _Counted(NamedTuple):
    """Some of the output, with how many ends of lines and bytes it has."""

    item: StoredEvent
    newlines: int
    size: int

    @classmethod
    def of(cls, item: StoredEvent) -> _Counted:
        if not isinstance(item.event, LogChunk):
            return cls(item, 0, 0)
        text = item.event.text
        return cls(item, text.count("\n"), len(text.encode()))


class LastLines:
    """Keeps the last lines of the output that it is given, and hardly more, up to `MOST_BYTES`."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._items: deque[_Counted] = deque()
        self._newlines = 0
        self._bytes = 0
        # The last one that is not kept, and how many bytes were printed up to there.
        self._before: StoredEvent | None = None
        self._bytes_before = 0

    def add(self, item: StoredEvent) -> None:
        """Take the next one."""
        counted = _Counted.of(item)
        self._items.append(counted)
        self._newlines += counted.newlines
        self._bytes += counted.size
        while self._is_enough_without(self._items[0]):
            first = self._items.popleft()
            self._newlines -= first.newlines
            self._bytes -= first.size
            self._before = first.item
            self._bytes_before += first.size

    def _is_enough_without(self, first: _Counted) -> bool:
        # The last line may have no end yet, so that one more is needed.
        if self._newlines - first.newlines > self._count:
            return True
        others = len(self._items) - 1
        return self._bytes - first.size + others * _EVENT_BYTES > MOST_BYTES

    def items(self) -> Iterable[StoredEvent]:
        """What was kept, cut to the lines; where they had more bytes, that is said in front."""
        kept: deque[StoredEvent] = deque()
        texts = [item.event.text for item, *_ in self._items if isinstance(item.event, LogChunk)]
        # Where to cut: behind that many ends of lines, counted from the end of the output.
        ends = self._count + bool(texts and texts[-1].endswith("\n"))
        for item, newlines, _ in reversed(self._items):
            event = item.event
            if isinstance(event, LogChunk):
                if newlines >= ends:
                    text = "\n".join(event.text.rsplit("\n", ends)[1:])
                    if text:
                        kept.appendleft(replace(item, event=changed(event, text=text)))
                    return kept
                ends -= newlines
            kept.appendleft(item)
        if self._before is not None:
            cut = OutputTruncated(
                at=self._before.event.at,
                attempt=self._before.event.attempt,
                left_out_bytes=self._bytes_before,
                limit_bytes=MOST_BYTES,
            )
            kept.appendleft(replace(self._before, event=cut))
        return kept
