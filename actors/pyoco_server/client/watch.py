"""The course of a watch over many connections. Does no I/O and has no clock."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import Any

import httpx

from pyoco_server.client import requests
from pyoco_server.client.requests import Call, Document
from pyoco_server.client.retry import RetryPolicy, passes
from pyoco_server.client.sse import SseEvent
from pyoco_server.model.run import TERMINAL_STATUSES

LONGEST_STREAM_SECONDS = 600
"""The most that the gateway takes as ``timeout_sec``."""

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


def is_terminal(snapshot: Document | None) -> bool:
    """Whether the snapshot is that of a run that has ended."""
    return snapshot is not None and snapshot.get("status") in TERMINAL_STATUSES


@dataclass(slots=True)
class Watch:
    """What a watch is after and what it has seen. Times are seconds of one steady clock.

    Attributes:
        run_id: The run.
        deadline: When the watch ends in any case; infinite for never.
        until_terminal: Whether it ends with the run.
        include_records: Whether snapshots carry their task records.
        since: Least ``updated_at`` of a snapshot, in unix seconds.
        outage_seconds: How long a gateway that was there once may be away.
        retry: Pauses between connections, and how often the first one is tried.
    """

    run_id: str
    deadline: float = math.inf
    until_terminal: bool = True
    include_records: bool = False
    since: float | None = None
    outage_seconds: float = 60.0
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    ended: bool = False
    _last: Document | None = None
    _last_sign_at: float | None = None
    _failures: int = 0

    def next_call(self, now: float) -> Call[Document] | None:
        """Return the stream to open, or ``None`` when the watch is over."""
        if self.ended or now >= self.deadline:
            return None
        left = min(self.deadline - now, LONGEST_STREAM_SECONDS)
        return requests.watch_run(
            self.run_id,
            include_records=self.include_records,
            since=self.since,
            timeout_sec=max(1, math.ceil(left)),
        )

    def silence_seconds(self, now: float) -> float:
        """How long to wait for the next bytes of a stream."""
        return min(SILENCE_SECONDS, max(self.deadline - now, 0.0) + 2 * _END_GRACE_SECONDS)

    def take(self, event: SseEvent, now: float) -> Document | None:
        """Return what to tell of an event; ``None`` for a snapshot that was told before."""
        self._heard(now)
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

    def _heard(self, now: float) -> None:
        self._last_sign_at = now
        self._failures = 0
        if now >= self.deadline + _END_GRACE_SECONDS:
            self.ended = True

    def after_end(self, now: float) -> float:
        """The stream has ended as it should: how long to wait before the next one, in seconds."""
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
        if self.ended or (now >= self.deadline and self._last_sign_at is not None):
            self.ended = True
            return 0.0
        self._failures += 1
        if self._last_sign_at is None:
            exhausted = self._failures >= self.retry.attempts
        else:
            exhausted = now - self._last_sign_at > self.outage_seconds
        delay = self.retry.delay(error, self._failures)
        if exhausted or delay is None or not passes(error):
            raise error
        return self._within_deadline(delay, now)

    def _within_deadline(self, delay: float, now: float) -> float:
        return min(delay, max(0.0, self.deadline - now))
