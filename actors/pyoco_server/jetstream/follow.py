"""Following the messages of a stream over everything that may happen to the connection.

What follows is a pull consumer of its own, ephemeral and without acknowledgements. It is made anew behind
the last seen sequence whenever it is lost, so nothing that the stream still holds is missed.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeAlias, TypeVar

import structlog
import trio

from pyoco_server.jetstream.api import call
from pyoco_server.jetstream.connection import Connection
from pyoco_server.jetstream.consumer import NANOSECONDS, Message
from pyoco_server.jetstream.errors import ApiError, BridgeError, Unavailable
from pyoco_server.jetstream.inventory import ConsumerInfo, read_stream
from pyoco_server.jetstream.standing import StandingPull
from pyoco_server.jetstream.stored import last_sequence

T = TypeVar("T")

log = structlog.get_logger(__name__)

_RETRY_SECONDS = 0.2
_REFUSALS = 10
# The server forgets a consumer that nobody pulls from for this long.
_INACTIVE_NANOSECONDS = 30 * NANOSECONDS

Start: TypeAlias = Literal["all", "last"]


@dataclass(frozen=True, slots=True)
class CaughtUp:
    """Everything that was stored at the start has been seen; ``revision`` is the last of it."""

    revision: int


@dataclass(frozen=True, slots=True)
class Reset:
    """The stream is not the one it was: what was seen is gone. What it holds follows, then `CaughtUp`."""


@dataclass(frozen=True)
class Arrived(Generic[T]):
    """What arrived together, in the order of the stream: messages, or what they say.

    Attributes:
        identity: Which stream it is: one that was deleted and made again has another identity.
        anew: The stream is read from its beginning: what was seen before is void.
        events: What arrived; nothing where this only says how far the reading is.
        revision: Everything up to this sequence has been seen.
        caught_up: Nothing more was stored when the last of it was handed out.
    """

    identity: str
    anew: bool
    events: Sequence[T]
    revision: int
    caught_up: bool


class Follower:
    """Hands out messages in the order of the stream.

    Args:
        subject: A subject of it, or a pattern.
        after: Begin behind this sequence.
        start: Without ``after``: "all" begins with the oldest message, "last" with the last one of each
            subject.
        batch: How many messages are asked for at once, and so held in memory.
        identity: Which stream it was when ``after`` was seen (`Arrived.identity`). When it is another one by
            now, or holds less than that, it is read from its beginning.
        holds: Asked before it goes on behind a sequence: whether the stream has what was seen up to there;
            else it is read from its beginning as well.
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
        identity: str | None = None,
        holds: Callable[[int], Awaitable[bool]] | None = None,
    ) -> None:
        self._connection = connection
        self._stream = stream
        self._holds = holds
        self._subject = subject
        self._last = after
        self._start = start
        self._batch = batch
        self._identity = identity
        # The last one of the subject when the consumer was made, as the stream's leader knows it, until it
        # was seen: in a cluster the consumer's server may lag behind, and take what it has not got yet for
        # all there is.
        self._present = 0
        # Of the last interruption, and how often in a row it was the same: it is told once.
        self._reason = ""
        self._times = 0
        self._consumer: StandingPull | None = None

    async def messages(self) -> AsyncGenerator[Message | CaughtUp | Reset, None]:
        """The messages, for ever, and `CaughtUp` once the present was seen; close it to end."""
        told = False
        begun = self._last is not None
        async with aclosing(self.arrivals()) as arrivals:
            async for arrived in arrivals:
                if arrived.anew and begun:
                    told = False
                    yield Reset()
                # A consumer that was lost before it gave anything has begun nothing.
                begun = begun or bool(arrived.events) or arrived.caught_up
                for message in arrived.events:
                    yield message
                if arrived.caught_up and not told:
                    told = True
                    yield CaughtUp(arrived.revision)

    async def arrivals(self) -> AsyncGenerator[Arrived[Message], None]:
        """The messages as they arrive together, for ever; close it to end."""
        try:
            while True:
                try:
                    pending, anew = await self._begin()
                except BridgeError as error:
                    await self._pause(error)
                    continue
                if anew or pending == 0:
                    yield self._arrived((), anew=anew, pending=pending)
                async with aclosing(self._fetched()) as batches:
                    async for messages in batches:
                        if messages:
                            self._last = messages[-1].stream_sequence
                            yield self._arrived(messages, pending=messages[-1].delivery.pending)
                        elif self._present:
                            # It has expired, or else it would have come.
                            self._present = 0
                            yield self._arrived((), pending=0)
                self._forget()
        finally:
            self._forget()

    def _arrived(
        self, messages: Sequence[Message], *, anew: bool = False, pending: int
    ) -> Arrived[Message]:
        last = self._last or 0
        caught_up = pending == 0 and last >= self._present
        if caught_up:
            self._present = 0
        return Arrived(self._identity or "", anew, messages, last, caught_up)

    async def _begin(self) -> tuple[int, bool]:
        """Make the consumer; return how many messages wait for it, and whether it begins anew."""
        info = await read_stream(self._connection, self._stream)
        last_stored = info.state.last_seq
        last = self._last
        if last is not None and not (
            last <= last_stored
            and self._identity in (None, info.created)
            and (self._holds is None or await self._holds(last))
        ):
            last = None
        anew = last is None
        self._present = await last_sequence(self._connection, self._stream, self._subject)
        if last is None and self._present == 0:
            last = last_stored
        config: dict[str, Any] = {
            "name": f"watch-{uuid.uuid4().hex}",
            "filter_subject": self._subject,
            "ack_policy": "none",
            "replay_policy": "instant",
            "mem_storage": True,
            "num_replicas": 1,
            "inactive_threshold": _INACTIVE_NANOSECONDS,
        }
        if last is not None:
            config["deliver_policy"] = "by_start_sequence"
            config["opt_start_seq"] = last + 1
        else:
            config["deliver_policy"] = "last_per_subject" if self._start == "last" else "all"
        made = await call(
            self._connection,
            f"CONSUMER.CREATE.{self._stream}.{config['name']}.{self._subject}",
            {"stream_name": self._stream, "config": config, "action": "create"},
            answer=ConsumerInfo,
        )
        if anew and self._last is not None:
            log.warning("stream is not the one it was, reading it anew", stream=self._stream)
        # Not before: where it fails on the way, the next attempt has to find out the same.
        self._last, self._identity = last, info.created
        self._consumer = StandingPull(
            self._connection, self._stream, config["name"], batch=self._batch
        )
        return made.num_pending, anew

    async def _fetched(self) -> AsyncGenerator[Sequence[Message], None]:
        """What the consumer hands out, until it or the connection is lost; empty when nothing comes."""
        assert self._consumer is not None
        epoch = self._connection.epoch
        expected = 1
        while self._connection.epoch == epoch:
            try:
                messages = await self._consumer.take()
                stored = 0
                if self._present and not messages:
                    stored = await last_sequence(self._connection, self._stream, self._subject)
            except BridgeError as error:
                if self._connection.epoch == epoch:
                    await self._pause(error)
                return
            # Where a reply was lost, it goes on behind the last one that was seen.
            if stored > (self._last or 0):
                return
            for index, message in enumerate(messages):
                if message.delivery.consumer_sequence != expected:
                    if index:
                        yield messages[:index]
                    return
                expected += 1
            yield messages

    async def _pause(self, error: BridgeError) -> None:
        reason = str(error)
        self._times = self._times + 1 if reason == self._reason else 1
        self._reason = reason
        # Refused once is no news: a stream of a new installation is just being made, or a server stops.
        if isinstance(error, ApiError) and self._times == _REFUSALS:
            log.warning("reading interrupted", stream=self._stream, reason=reason)
        elif self._times == 1:
            log.debug("reading interrupted", stream=self._stream, reason=reason)
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
