"""Following a bucket over everything that may happen to the connection.

A watch is a pull consumer of its own, ephemeral and without acknowledgements. It is made anew behind the
last seen sequence whenever it is lost; with one value kept for each key nothing but states in between
can be missed.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any, TypeAlias

import msgspec
import structlog
import trio

from pyoco_server.jetstream.api import call
from pyoco_server.jetstream.connection import Connection
from pyoco_server.jetstream.consumer import Message, PullConsumer
from pyoco_server.jetstream.errors import ApiError, BridgeError, Unavailable

log = structlog.get_logger(__name__)

_BATCH = 512
_LINGER_SECONDS = 5.0
_RETRY_SECONDS = 0.2
# The server forgets a consumer that nobody pulls from for this long.
_INACTIVE_NANOSECONDS = 30 * 1_000_000_000


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


@dataclass(frozen=True, slots=True)
class CaughtUp:
    """Everything that was stored when the watch began has been seen; ``revision`` is the last of it."""

    revision: int


WatchEvent: TypeAlias = Entry | Deleted | CaughtUp


class _StreamState(msgspec.Struct):
    last_seq: int = 0


class _StreamInfo(msgspec.Struct):
    state: _StreamState


class _ConsumerInfo(msgspec.Struct):
    num_pending: int = 0


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
        self._connection = connection
        self._stream = stream
        self._prefix = prefix
        self._filter = prefix + pattern
        self._last = since
        self._include_history = include_history
        self._caught_up = False
        self._consumer: PullConsumer | None = None

    async def events(self) -> AsyncGenerator[WatchEvent, None]:
        """The events, for ever; close it to end the watch."""
        try:
            while True:
                try:
                    pending = await self._begin()
                except BridgeError as error:
                    await self._pause(error)
                    continue
                if pending == 0 and not self._caught_up:
                    self._caught_up = True
                    yield CaughtUp(self._last or 0)
                async for message in self._messages():
                    self._last = message.stream_sequence
                    yield self._event(message)
                    if message.delivery.pending == 0 and not self._caught_up:
                        self._caught_up = True
                        yield CaughtUp(self._last)
                self._forget()
        finally:
            self._forget()

    async def _begin(self) -> int:
        """Make the consumer; return how many messages wait for it."""
        info = await call(self._connection, f"STREAM.INFO.{self._stream}", answer=_StreamInfo)
        last_stored = info.state.last_seq
        if self._last is not None and self._last > last_stored:
            log.warning("bucket is not the one it was, reading it anew", stream=self._stream)
            self._last, self._include_history = None, True
        if self._last is None and not self._include_history:
            self._last = last_stored
        config: dict[str, Any] = {
            "name": f"watch-{uuid.uuid4().hex}",
            "filter_subject": self._filter,
            "ack_policy": "none",
            "replay_policy": "instant",
            "mem_storage": True,
            "num_replicas": 1,
            "inactive_threshold": _INACTIVE_NANOSECONDS,
        }
        if self._last is None:
            config["deliver_policy"] = "last_per_subject"
        else:
            config["deliver_policy"] = "by_start_sequence"
            config["opt_start_seq"] = self._last + 1
        where = f"CONSUMER.CREATE.{self._stream}.{config['name']}.{self._filter}"
        made = await call(
            self._connection,
            where,
            {"stream_name": self._stream, "config": config, "action": "create"},
            answer=_ConsumerInfo,
        )
        self._consumer = PullConsumer(self._connection, self._stream, config["name"])
        if self._last is None and made.num_pending == 0:
            self._last = last_stored
        return made.num_pending

    async def _messages(self) -> AsyncGenerator[Message, None]:
        """What the consumer hands out, until it or the connection is lost."""
        assert self._consumer is not None
        epoch = self._connection.epoch
        expected = 1
        linger = False
        while self._connection.epoch == epoch:
            try:
                if linger:
                    messages = await self._consumer.fetch(1, expires=_LINGER_SECONDS)
                else:
                    messages = await self._consumer.fetch(_BATCH, expires=0.0)
            except BridgeError as error:
                await self._pause(error)
                return
            linger = not messages
            for message in messages:
                if message.delivery.consumer_sequence != expected:
                    return  # a reply was lost: go on behind the last one that was seen
                expected += 1
                yield message

    async def _pause(self, error: BridgeError) -> None:
        level = logging.WARNING if isinstance(error, ApiError) else logging.DEBUG
        log.log(level, "watch interrupted", stream=self._stream, reason=str(error))
        if isinstance(error, Unavailable) and not self._connection.status.connected:
            await self._connection.changed()
        else:
            await trio.sleep(_RETRY_SECONDS)

    def _event(self, message: Message) -> WatchEvent:
        key = message.subject.removeprefix(self._prefix)
        headers = message.headers
        if "KV-Operation" in headers or "Nats-Marker-Reason" in headers:
            return Deleted(key, message.stream_sequence)
        delivery = message.delivery
        return Entry(key, message.data, delivery.stream_sequence, delivery.timestamp)

    def _forget(self) -> None:
        """Let the server drop the consumer now rather than after half a minute."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            consumer.close()
            self._connection.publish_soon(f"$JS.API.CONSUMER.DELETE.{self._stream}.{consumer.name}")
