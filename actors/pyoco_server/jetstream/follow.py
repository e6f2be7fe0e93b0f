"""Following the messages of a stream over everything that may happen to the connection.

What follows is a pull consumer of its own, ephemeral and without acknowledgements. It is made anew behind
the last seen sequence whenever it is lost, so nothing that the stream still holds is missed.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import msgspec
import structlog
import trio

from pyoco_server.jetstream.api import call
from pyoco_server.jetstream.connection import Connection
from pyoco_server.jetstream.consumer import Message, PullConsumer
from pyoco_server.jetstream.errors import ApiError, BridgeError, Unavailable

log = structlog.get_logger(__name__)

_LINGER_SECONDS = 5.0
_RETRY_SECONDS = 0.2
# The server forgets a consumer that nobody pulls from for this long.
_INACTIVE_NANOSECONDS = 30 * 1_000_000_000

Start: TypeAlias = Literal["all", "last", "new"]


@dataclass(frozen=True, slots=True)
class CaughtUp:
    """Everything that was stored at the start has been seen; ``revision`` is the last of it."""

    revision: int


class _StreamState(msgspec.Struct):
    last_seq: int = 0


class _StreamInfo(msgspec.Struct):
    state: _StreamState


class _ConsumerInfo(msgspec.Struct):
    num_pending: int = 0


class Follower:
    """Hands out messages in the order of the stream.

    Args:
        connection: The way to NATS.
        stream: The stream.
        subject: A subject of it, or a pattern.
        after: Begin behind this sequence.
        start: Without ``after``: "all" begins with the oldest message, "last" with the last one of each
            subject, "new" with what is stored from now on.
        batch: How many messages are asked for at once, and so held in memory.
    """

    def __init__(
        self,
        connection: Connection,
        stream: str,
        subject: str,
        *,
        after: int | None = None,
        start: Start = "all",
        batch: int = 512,
    ) -> None:
        self._connection = connection
        self._stream = stream
        self._subject = subject
        self._last = after
        self._start: Start = start
        self._batch = batch
        self._caught_up = False
        self._consumer: PullConsumer | None = None

    async def messages(self) -> AsyncGenerator[Message | CaughtUp, None]:
        """The messages, for ever, and once `CaughtUp`; close it to end."""
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
                async with aclosing(self._fetched()) as messages:
                    async for message in messages:
                        self._last = message.stream_sequence
                        yield message
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
            log.warning("stream is not the one it was, reading it anew", stream=self._stream)
            self._last = None
            self._start = "last" if self._start == "new" else self._start
        if self._last is None and self._start == "new":
            self._last = last_stored
        config: dict[str, Any] = {
            "name": f"watch-{uuid.uuid4().hex}",
            "filter_subject": self._subject,
            "ack_policy": "none",
            "replay_policy": "instant",
            "mem_storage": True,
            "num_replicas": 1,
            "inactive_threshold": _INACTIVE_NANOSECONDS,
        }
        if self._last is not None:
            config["deliver_policy"] = "by_start_sequence"
            config["opt_start_seq"] = self._last + 1
        else:
            config["deliver_policy"] = "last_per_subject" if self._start == "last" else "all"
        made = await call(
            self._connection,
            f"CONSUMER.CREATE.{self._stream}.{config['name']}.{self._subject}",
            {"stream_name": self._stream, "config": config, "action": "create"},
            answer=_ConsumerInfo,
        )
        self._consumer = PullConsumer(self._connection, self._stream, config["name"])
        if self._last is None and made.num_pending == 0:
            self._last = last_stored
        return made.num_pending

    async def _fetched(self) -> AsyncGenerator[Message, None]:
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
                    messages = await self._consumer.fetch(self._batch, expires=0.0)
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
        log.log(level, "reading interrupted", stream=self._stream, reason=str(error))
        if isinstance(error, Unavailable) and not self._connection.status.connected:
            await self._connection.changed()
        else:
            await trio.sleep(_RETRY_SECONDS)

    def _forget(self) -> None:
        """Let the server drop the consumer now rather than after half a minute."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            consumer.close()
            self._connection.publish_soon(f"$JS.API.CONSUMER.DELETE.{self._stream}.{consumer.name}")
