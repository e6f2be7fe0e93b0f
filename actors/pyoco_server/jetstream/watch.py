"""Following a bucket: the messages of its stream (`follow`) as what they say of its keys.

With one value kept for each key nothing but states in between can be missed.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import TypeAlias

from pyoco_server.jetstream.connection import Connection
from pyoco_server.jetstream.consumer import Message
from pyoco_server.jetstream.follow import CaughtUp, Follower


@dataclass(frozen=True, slots=True)
class Entry:
    """A value.

    Attributes:
        key: Its key.
        value: The bytes.
        revision: The sequence it is stored under.
        created: When it was stored, in unix seconds.
    """

    key: str
    value: bytes
    revision: int
    created: float


@dataclass(frozen=True, slots=True)
class Deleted:
    """The key was deleted, purged or, where the bucket leaves markers, has expired."""

    key: str
    revision: int


WatchEvent: TypeAlias = Entry | Deleted | CaughtUp


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
    ) -> None:
        self._prefix = prefix
        self._follower = Follower(
            connection,
            stream,
            prefix + pattern,
            after=since,
            start="last" if include_history else "new",
        )

    async def events(self) -> AsyncGenerator[WatchEvent, None]:
        """The events, for ever; close it to end the watch."""
        async with aclosing(self._follower.messages()) as messages:
            async for message in messages:
                yield message if isinstance(message, CaughtUp) else self._event(message)

    def _event(self, message: Message) -> Entry | Deleted:
        key = message.subject.removeprefix(self._prefix)
        headers = message.headers
        if "KV-Operation" in headers or "Nats-Marker-Reason" in headers:
            return Deleted(key, message.stream_sequence)
        delivery = message.delivery
        return Entry(key, message.data, delivery.stream_sequence, delivery.timestamp)
