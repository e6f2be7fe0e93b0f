"""A connection to the NATS server in memory, with trouble on the line: what is sent or answered may be lost,
late, or take effect after its sender has given up."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import trio

from drills.fake_nats import Server, matches
from pyoco_server.jetstream.clock import ServerClock
from pyoco_server.jetstream.connection import ConnectionStatus
from pyoco_server.jetstream.errors import Unanswered, Unavailable
from pyoco_server.jetstream.outbox import Feed
from pyoco_server.jetstream.requests import Ahead, Headers, RawMessage

_LATENCY_SECONDS = 0.02
_LATE_SECONDS = 8.0


@dataclass
class Trouble:
    """How likely each fault is, for each message.

    Attributes:
        request_lost: A request is lost on its way.
        answer_lost: It takes effect, and its answer is lost.
        late: It takes effect after its sender has given up.
        dropped: A message that wants no answer, or a delivery, is lost.
    """

    request_lost: float = 0.0
    answer_lost: float = 0.0
    late: float = 0.0
    dropped: float = 0.0

    def heal(self) -> None:
        """No more faults."""
        self.request_lost = self.answer_lost = self.late = self.dropped = 0.0


class FakeConnection:
    """Stands in for `Connection`; used by one process of the drill.

    Args:
        server: The server.
        trouble: What happens on the line.
        rng: Decides it.
    """

    def __init__(self, server: Server, trouble: Trouble, rng: random.Random) -> None:
        self._server = server
        self._trouble = trouble
        self._rng = rng
        self.clock = ServerClock()
        # Of an old server or a new one, which takes batches.
        self._version = rng.choice(["2.11.9", "2.12.0"])
        self._status = ConnectionStatus()
        self._changed = trio.Event()
        self._lost = trio.Event()
        self._feeds: list[Feed] = []
        self.set_connected(connected=True)
        self.alive = True
        server.clients.append(self._receive)

    @property
    def status(self) -> ConnectionStatus:
        return self._status

    @property
    def epoch(self) -> int:
        return self._status.epoch

    async def changed(self) -> None:
        await self._changed.wait()

    async def wait_connected(self, *, within: float) -> None:
        with trio.move_on_after(within):
            while not self._status.connected:
                await self.changed()
            return
        raise Unavailable(f"not connected within {within:g} s")

    def set_connected(self, *, connected: bool) -> None:
        """Break the connection, or have it back."""
        if connected == self._status.connected:
            return
        epoch = self.epoch + 1 if connected else self.epoch
        self._status = ConnectionStatus(
            connected=connected,
            epoch=epoch,
            server_version=self._version,
            max_payload=1024 * 1024,
            last_error="broken",
        )
        changed, self._changed = self._changed, trio.Event()
        changed.set()
        if not connected:
            lost, self._lost = self._lost, trio.Event()
            lost.set()
            for feed in tuple(self._feeds):
                feed.lose()

    def kill(self) -> None:
        """Its process is dead: nothing goes out or comes in any more."""
        self.alive = False
        self.set_connected(connected=False)
        if self._receive in self._server.clients:
            self._server.clients.remove(self._receive)

    def _receive(self, subject: str, reply: RawMessage) -> None:
        if not self._status.connected:
            return
        for feed in tuple(self._feeds):
            if matches(feed.subject, subject):
                if self._rng.random() >= self._trouble.dropped:
                    feed.deliver(reply)
                return

    def _require_connected(self) -> None:
        if not self._status.connected:
            raise Unavailable("NATS is not connected: broken")

    async def publish(
        self,
        subject: str,
        payload: bytes = b"",
        *,
        headers: Headers | None = None,
        reply: str = "",
    ) -> None:
        await trio.lowlevel.checkpoint()
        self._require_connected()
        if self._rng.random() >= self._trouble.dropped:
            self._server.publish(subject, payload, headers or {}, reply)

    def publish_soon(self, subject: str, payload: bytes = b"", *, reply: str = "") -> None:
        if self._status.connected and self._rng.random() >= self._trouble.dropped:
            self._server.publish(subject, payload, {}, reply)

    async def request(
        self,
        subject: str,
        payload: bytes = b"",
        *,
        headers: Headers | None = None,
        ahead: Sequence[Ahead] = (),
        within: float,
    ) -> RawMessage:
        await trio.lowlevel.checkpoint()
        self._require_connected()
        trouble, roll = self._trouble, self._rng.random()
        epoch = self.epoch

        def send_ahead(messages: Sequence[Ahead]) -> None:
            for message in messages:
                self._server.publish(*message)

        def act() -> bytes | None:
            send_ahead(ahead)
            return self._server.publish(subject, payload, headers or {})

        if roll < trouble.request_lost:
            send_ahead(ahead[: int(len(ahead) * roll / trouble.request_lost)])
            return await self._never(subject, within)
        roll -= trouble.request_lost
        if roll < trouble.answer_lost:
            act()
            return await self._never(subject, within)
        roll -= trouble.answer_lost
        if roll < trouble.late:
            self._server.later(within + self._rng.uniform(0, _LATE_SECONDS), act)
            return await self._never(subject, within)
        await trio.sleep(self._rng.uniform(0, _LATENCY_SECONDS))
        if self._broken_since(epoch):
            raise Unanswered(f"request to {subject}: the connection broke")
        answer = act()
        if answer is None:
            raise Unavailable(f"nobody answers at {subject}")
        await trio.sleep(self._rng.uniform(0, _LATENCY_SECONDS))
        if self._broken_since(epoch):
            raise Unanswered(f"request to {subject}: the connection broke")
        return RawMessage(subject, answer)

    def _broken_since(self, epoch: int) -> bool:
        return not self._status.connected or self.epoch != epoch

    async def _never(self, subject: str, within: float) -> RawMessage:
        with trio.move_on_after(within):
            await self._lost.wait()
        raise Unanswered(f"request to {subject}: no answer within {within:g} s")

    def open_feed(
        self, subject: str, deliver: Callable[[RawMessage], None], lose: Callable[[], None]
    ) -> Feed:
        feed = Feed(subject, deliver, lose)
        self._feeds.append(feed)
        return feed

    def close_feed(self, feed: Feed) -> None:
        if feed in self._feeds:
            self._feeds.remove(feed)
            self._server.lose_interest(feed.subject)

    @asynccontextmanager
    async def subscribe(
        self, subject: str, *, capacity: int = 256
    ) -> AsyncIterator[trio.MemoryReceiveChannel[tuple[str, bytes]]]:
        send, receive = trio.open_memory_channel[tuple[str, bytes]](capacity)

        def deliver(message: RawMessage) -> None:
            try:
                send.send_nowait((message.subject, message.payload))
            except trio.WouldBlock:
                return

        feed = self.open_feed(subject, deliver, lambda: None)
        try:
            with send, receive:
                yield receive
        finally:
            self.close_feed(feed)
