"""What is followed over many connections, and where each of them begins. Does no I/O and has no clock."""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import httpx

from pyoco_server.client.requests import ApiCall, Document, with_params
from pyoco_server.client.retry import RetryPolicy, passes
from pyoco_server.client.sse import SseEvent
from pyoco_server.model.run import TERMINAL_STATUSES

LONGEST_STREAM_SECONDS = 600
"""The most that the gateway takes as ``timeout_sec`` of a run."""

_LONGEST_LIST_SECONDS = 86_400
"""The same of a list."""

SILENCE_SECONDS = 20.0
"""How long a stream may say nothing; the gateway gives a sign of life every 5 s."""

_END_GRACE_SECONDS = 1.0


def decode_event(event: SseEvent) -> Document:
    """Return the event as ``{"event": name, "data": what its JSON holds}``."""
    try:
        data: Any = json.loads(event.data)
    except (ValueError, RecursionError):
        data = {"raw": event.data}
    return {"event": event.event, "data": data}


def snapshot_of(event: Document) -> Document | None:
    """Return the snapshot that an event carries, if it carries one."""
    data = event.get("data")
    snapshot = data.get("snapshot") if isinstance(data, dict) else None
    return snapshot if isinstance(snapshot, dict) else None


def is_terminal(snapshot: Mapping[str, Any] | None) -> bool:
    """Whether the snapshot is that of a run that has ended."""
    return snapshot is not None and snapshot.get("status") in TERMINAL_STATUSES


@dataclass(slots=True, kw_only=True)
class Watch(ABC):
    """Follows something. Times are seconds of one steady clock.

    Attributes:
        first: The call that opens the stream at its beginning.
        deadline: When the watch ends, seen at an event or the end of a stream; infinite for never.
        retry: Pauses between connections, and how often the first one is tried.
        outage_seconds: How long a gateway that was there once may be away.
        ended: Whether all is told.
    """

    first: ApiCall[Document]
    deadline: float = math.inf
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    outage_seconds: float = 60.0
    ended: bool = False
    _met: bool = False
    _away_since: float | None = None
    _failures: int = 0

    def next_call(self, now: float) -> ApiCall[Document] | None:
        """Return the stream to open, or ``None`` when the watch is over, the gateway having been asked."""
        over = self.ended or (self._met and now >= self.deadline)
        return None if over else self._next(self.deadline - now)

    def silence_seconds(self, now: float) -> float:
        """How long to wait for the next bytes of a stream."""
        return min(SILENCE_SECONDS, max(self.deadline - now, 0.0) + 2 * _END_GRACE_SECONDS)

    def take(self, event: SseEvent, now: float) -> Document | None:
        """Return what to tell of an event, if anything."""
        self._met = True
        self._away_since = None
        self._failures = 0
        if now >= self.deadline + _END_GRACE_SECONDS:
            self.ended = True
        return self._tell(event)

    def after_end(self, now: float) -> float:
        """The stream has ended as it should: how long to wait before the next one, in seconds."""
        self._away_since = None
        if self.deadline - now < _END_GRACE_SECONDS:
            self.ended = True
        if self.ended:
            return 0.0
        self._failures += 1
        return self._within_deadline(self.retry.delay(None, self._failures) or 0.0, now)

    def after_failure(self, error: httpx.HTTPError, now: float) -> float:
        """The stream could not be opened, or broke: how long to wait, in seconds.

        Raises:
            httpx.HTTPError: ``error`` itself, when there is no use in going on.
        """
        # Silence is no failure where nothing more was waited for.
        quiet = self._met or isinstance(error, httpx.ReadTimeout)
        if self.ended or (now >= self.deadline and quiet):
            self.ended = True
            return 0.0
        self._failures += 1
        # Not since its last sign of life: whoever took that may have been busy with it.
        self._away_since = now if self._away_since is None else self._away_since
        if self._met:
            exhausted = now - self._away_since > self.outage_seconds
        else:
            exhausted = self._failures >= self.retry.attempts or now >= self.deadline
        delay = self.retry.delay(error, self._failures)
        if exhausted or delay is None or not passes(error):
            raise error
        return self._within_deadline(delay, now)

    def _within_deadline(self, delay: float, now: float) -> float:
        return min(delay, max(0.0, self.deadline - now))

    @abstractmethod
    def _next(self, seconds_left: float) -> ApiCall[Document]: ...

    @abstractmethod
    def _tell(self, event: SseEvent) -> Document | None: ...


@dataclass(slots=True, kw_only=True)
class RunWatch(Watch):
    """Follows the snapshots of a run, none of which is told twice in a row.

    Attributes:
        until_terminal: Whether it ends with the run.
    """

    until_terminal: bool = True
    _last: Document | None = None

    def _next(self, seconds_left: float) -> ApiCall[Document]:
        left = min(seconds_left, LONGEST_STREAM_SECONDS)
        return with_params(self.first, timeout_sec=max(1, math.ceil(left)))

    def _tell(self, event: SseEvent) -> Document | None:
        told = decode_event(event)
        snapshot = snapshot_of(told)
        if snapshot is None:
            return told
        if self.until_terminal and is_terminal(snapshot):
            self.ended = True
        if snapshot == self._last:
            return None
        self._last = snapshot
        return told


@dataclass(slots=True, kw_only=True)
class EventWatch(Watch):
    """Follows what happens in a run, each connection behind the last event that was seen."""

    _cursor: str | None = None

    def _next(self, seconds_left: float) -> ApiCall[Document]:  # noqa: ARG002 - it ends with the run
        call = with_params(self.first, follow=1, cursor=self._cursor)
        params = {name: value for name, value in call.params.items() if name != "limit"}
        return replace(call, params=params, headers={"Accept": "text/event-stream"})

    def _tell(self, event: SseEvent) -> Document | None:
        if event.event == "end":
            self.ended = True
        if event.event in {"end", "heartbeat"}:
            return None
        if event.id:
            self._cursor = event.id
        data = decode_event(event)["data"]
        return data if isinstance(data, dict) else None


@dataclass(slots=True, kw_only=True)
class ListWatch(Watch):
    """Follows the changes of a list of runs, each connection behind the last one that was seen."""

    _last_id: str | None = None

    def _next(self, seconds_left: float) -> ApiCall[Document]:
        left = None
        if seconds_left < math.inf:
            left = max(1, math.ceil(min(seconds_left, _LONGEST_LIST_SECONDS)))
        headers = {"Accept": "text/event-stream"}
        if self._last_id is not None:
            headers["Last-Event-ID"] = self._last_id
        return replace(with_params(self.first, timeout_sec=left), headers=headers)

    def _tell(self, event: SseEvent) -> Document | None:
        # A greeting but the first tells nothing.
        again = event.event == "hello" and self._last_id is not None
        if event.id:
            self._last_id = event.id
        return None if again or event.event == "heartbeat" else decode_event(event)
