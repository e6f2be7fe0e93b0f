"""Following a bucket: the messages of its stream (`follow`) as what they say of its keys.

With one value kept for each key nothing but states in between can be missed.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import TypeAlias

from pyoco_server.jetstream.connection import Connection
from pyoco_server.jetstream.consumer import Message
from pyoco_server.jetstream.follow import CaughtUp, Follower, Reset

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


@dataclass(frozen=True, slots=True)
class Batch:
    """Changes that arrived together, in the order of their revisions.

    Attributes:
        identity: Which bucket it is: one that was deleted and made again has another identity.
        anew: The bucket is read from its beginning: what was seen before is void.
        events: The changes; none in a batch that only says how far the watch is.
        revision: Everything up to here has been seen.
        caught_up: Nothing more was stored when the batch was handed out.
    """

    identity: str
    anew: bool
    events: tuple[Entry | Deleted, ...]
    revision: int
    caught_up: bool


class Watcher:
    """The running side of `KeyValue.watch`."""

    def __init__(
        self,
        connection: Connection,
        stream: str,
        prefix: str,
        pattern: str,
        since: int | None,
        *,
        include_history: bool,
        identity: str | None = None,
        holds: Callable[[int], Awaitable[bool]] | None = None,
    ) -> None:
        self._prefix = prefix
        self._follower = Follower(
            connection,
            stream,
            prefix + pattern,
            after=since,
            start="last" if include_history else "new",
            identity=identity,
            holds=holds,
        )

    async def events(self) -> AsyncGenerator[WatchEvent, None]:
        """The events, for ever; close it to end the watch."""
        async with aclosing(self._follower.messages()) as messages:
            async for message in messages:
                match message:
                    case CaughtUp() | Reset():
                        yield message
                    case _:
                        yield self._event(message)

    async def batches(self) -> AsyncGenerator[Batch, None]:
        """The changes as they arrive, for ever; close it to end the watch."""
        async with aclosing(self._follower.arrivals()) as arrivals:
            async for arrived in arrivals:
                yield Batch(
                    arrived.identity,
                    arrived.anew,
                    tuple(map(self._event, arrived.messages)),
                    arrived.last,
                    arrived.caught_up,
                )

    def _event(self, message: Message) -> Entry | Deleted:
        key = message.subject.removeprefix(self._prefix)
        headers = message.headers
        if "KV-Operation" in headers or "Nats-Marker-Reason" in headers:
            return Deleted(key, message.stream_sequence)
        delivery = message.delivery
        ttl = _ttl_seconds(headers.get("Nats-TTL", ""))
        expires_at = None if ttl is None else delivery.timestamp + ttl
        return Entry(key, message.data, delivery.stream_sequence, delivery.timestamp, expires_at)


def _ttl_seconds(text: str) -> float | None:
    """Read a ``Nats-TTL`` header (ADR-43 of nats-architecture-and-design); None for no expiry.

    It holds whole seconds or a Go duration such as ``1h30m``, or ``never``.
    """
    if text.isdigit():
        return float(text)
    parts = _DURATION.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        return None
    return sum(float(number) * _UNITS[unit] for number, unit in parts)
