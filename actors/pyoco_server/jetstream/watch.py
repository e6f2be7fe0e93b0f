"""Following a bucket: the messages of its stream (`follow`) as what they say of its keys.

With one value kept for each key nothing but states in between can be missed.
"""

from __future__ import annotations

import math
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Set
from contextlib import aclosing
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

import trio

from pyoco_server.jetstream.connection import Connection
from pyoco_server.jetstream.consumer import Message
from pyoco_server.jetstream.errors import Unanswered
from pyoco_server.jetstream.follow import Arrived, CaughtUp, Follower, Reset
from pyoco_server.jetstream.inventory import read_stream

_COMPARE_SECONDS = 10.0
_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_DURATION = re.compile(r"([0-9.]+)(h|ms|m|s|us|µs|ns)")


@dataclass(frozen=True, slots=True)
class Entry:
    """A value.

    Attributes:
        key: Its key.
        value: The bytes.
        revision: The sequence it is stored under.
        created: When it was stored, in unix seconds.
        expires_at: When it goes away by itself, in unix seconds; known to watches only.
    """

    key: str
    value: bytes
    revision: int
    created: float
    expires_at: float | None = None


@dataclass(frozen=True, slots=True)
class Deleted:
    """The key was deleted, purged or, where the bucket leaves markers, has expired."""

    key: str
    revision: int


WatchEvent: TypeAlias = Entry | Deleted | CaughtUp | Reset
Batch: TypeAlias = Arrived[Entry | Deleted]
"""Changes that arrived together, in the order of their revisions."""


class Watcher:
    """The running side of `KeyValue.watch`.

    Where nobody else can tell what the bucket holds (``holds``), it remembers what it has handed out since
    the beginning, a revision for each key, and compares that after each interruption.
    """

    def __init__(
        self,
        connection: Connection,
        stream: str,
        prefix: str,
        pattern: str,
        since: int | None = None,
        *,
        identity: str | None = None,
        holds: Callable[[int], Awaitable[bool]] | None = None,
    ) -> None:
        self._connection = connection
        self._stream = stream
        self._prefix = prefix
        self._pattern = pattern
        # By key: the revision, and when it was stored.
        self._handed: dict[str, tuple[int, float]] = {}
        self._remembers = holds is None and since is None
        self._follower = Follower(
            connection,
            stream,
            prefix + pattern,
            after=since,
            start="last",
            identity=identity,
            holds=self._holds if self._remembers else holds,
        )

    async def events(self) -> AsyncGenerator[WatchEvent, None]:
        """The events, for ever; close it to end the watch."""
        async with aclosing(self._follower.messages()) as messages:
            async for message in messages:
                match message:
                    case CaughtUp():
                        yield message
                    case Reset():
                        self._handed.clear()
                        yield message
                    case _:
                        yield self._event(message)

    async def batches(self) -> AsyncGenerator[Batch, None]:
        """The changes as they arrive, for ever; close it to end the watch."""
        async with aclosing(self._follower.arrivals()) as arrivals:
            async for arrived in arrivals:
                if arrived.anew:
                    self._handed.clear()
                yield Arrived(
                    arrived.identity,
                    arrived.anew,
                    tuple(map(self._event, arrived.events)),
                    arrived.revision,
                    arrived.caught_up,
                )

    def _event(self, message: Message) -> Entry | Deleted:
        key = message.subject.removeprefix(self._prefix)
        headers = message.headers
        if "KV-Operation" in headers or "Nats-Marker-Reason" in headers:
            self._handed.pop(key, None)
            return Deleted(key, message.stream_sequence)
        delivery = message.delivery
        ttl = _ttl_seconds(headers.get("Nats-TTL", ""))
        expires_at = None if ttl is None else delivery.timestamp + ttl
        entry = Entry(key, message.data, delivery.stream_sequence, delivery.timestamp, expires_at)
        if self._remembers:
            self._handed[key] = (entry.revision, entry.created)
        return entry

    async def _holds(self, seq: int) -> bool:
        """Whether each key is as it was handed out, or has changed behind ``seq``.

        A bucket that was put back to an older state and written past tells it by nothing else.

        Raises:
            BridgeError: NATS could not be asked within ten seconds.
        """
        present: dict[str, tuple[int, float | None]] = {}
        with trio.move_on_after(_COMPARE_SECONDS) as reading:
            another = Watcher(self._connection, self._stream, self._prefix, self._pattern)
            async with aclosing(another.batches()) as batches:
                async for batch in batches:
                    for event in batch.events:
                        stored_at = event.created if isinstance(event, Entry) else None
                        present[event.key] = (event.revision, stored_at)
                    if batch.caught_up:
                        break
        if reading.cancelled_caught:
            raise Unanswered(f"{self._stream} could not be compared within {_COMPARE_SECONDS:g} s")
        for key, now in present.items():
            # The marker of a deleted key says nothing that was not known.
            if now[0] <= seq and now != self._handed.get(key, (now[0], None)):
                return False
        gone = self._handed.keys() - present.keys()
        return not gone or await self._have_expired(gone)

    async def _have_expired(self, keys: Set[str]) -> bool:
        info = await read_stream(self._connection, self._stream)
        oldest = self._connection.clock.now() - (info.config.get("max_age") or math.inf) / 1e9
        return all(self._handed[key][1] <= oldest for key in keys)


@lru_cache(maxsize=64)
def _ttl_seconds(text: str) -> float | None:
    """Read a ``Nats-TTL`` header (ADR-43 of nats-architecture-and-design); None for no expiry.

    It holds whole seconds or a Go duration such as ``1h30m``, or ``never``.
    """
    if text.isdecimal():
        return float(text)
    parts = _DURATION.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        return None
    return sum(float(number) * _UNITS[unit] for number, unit in parts)
