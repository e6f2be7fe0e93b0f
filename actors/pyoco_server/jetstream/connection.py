"""The connection to NATS: comes back for ever, and carries requests without a task for any of them."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

import structlog
import trio

from pyoco_server.jetstream.asyncio_loop import TrioEventLoop
from pyoco_server.jetstream.asyncio_loop import open_loop as open_asyncio_loop
from pyoco_server.jetstream.clock import ServerClock
from pyoco_server.jetstream.errors import PayloadTooLarge, Unanswered, Unavailable
from pyoco_server.jetstream.outbox import Feed, Outbox, Outgoing
from pyoco_server.jetstream.requests import Ahead, Headers, PendingRequests, RawMessage, new_inbox
from pyoco_server.jetstream.session import ConnectionOptions, Session, text_of

__all__ = ["Connection", "ConnectionOptions", "ConnectionStatus", "open_connection"]

log = structlog.get_logger(__name__)

_FIRST_DELAY_SECONDS = 0.05
_LONGEST_DELAY_SECONDS = 2.0


@dataclass(frozen=True)
class ConnectionStatus:
    """How the connection is now.

    Attributes:
        connected: Whether requests can be sent.
        since: When ``connected`` took this value, in unix seconds.
        epoch: Rises by one with each new connection; 0 before the first.
        reconnects: How often it came back.
        server: URL of the server, without user and password.
        server_version: What it runs.
        max_payload: The largest message it takes, in bytes, headers included.
        last_error: Why the last connection or attempt failed.
    """

    connected: bool = False
    since: float = 0.0
    epoch: int = 0
    reconnects: int = 0
    server: str | None = None
    server_version: str | None = None
    max_payload: int | None = None
    last_error: str | None = None

    @property
    def absence(self) -> str:
        """What to say while it is not connected."""
        return f"NATS is not connected: {self.last_error or 'connecting'}"


class Connection:
    """Made by `open_connection`. Every method is for trio tasks and is cancelled at once.

    Attributes:
        clock: The server's.
    """

    def __init__(self, loop: TrioEventLoop, options: ConnectionOptions) -> None:
        self._loop = loop
        self._options = options
        self.clock = ServerClock()
        self._status = ConnectionStatus(since=time.time())
        self._changed = trio.Event()
        self._outbox = Outbox()
        self._pending = pending = PendingRequests(new_inbox())
        replies = Feed(f"{pending.inbox}.*", pending.deliver, pending.lose_all)
        self._feeds = {replies}
        self._discovered: tuple[str, ...] = ()
        self._session: Session | None = None

    # Status --------------------------------------------------------------------------------------

    @property
    def status(self) -> ConnectionStatus:
        """How the connection is now."""
        return self._status

    @property
    def epoch(self) -> int:
        """Which connection this is; rises with each one."""
        return self._status.epoch

    async def changed(self) -> None:
        """Wait for the next change of `status`."""
        await self._changed.wait()

    async def wait_connected(self, *, within: float) -> None:
        """Wait until NATS is connected.

        Raises:
            Unavailable: It was not within so many seconds; the text has the last reason.
        """
        with trio.move_on_after(within):
            while not self._status.connected:
                await self.changed()
            return
        where = ", ".join(url.rpartition("@")[2] for url in self._options.urls)
        raise Unavailable(
            f"NATS not connected within {within:g} s at {where}: "
            f"{self._status.last_error or 'no answer'}"
        )

    def _set_status(self, **changes: Any) -> None:
        if "connected" in changes:
            changes["since"] = time.time()
        self._status = replace(self._status, **changes)
        changed, self._changed = self._changed, trio.Event()
        changed.set()

    # Sending and receiving -------------------------------------------------------------------------

    async def publish(
        self,
        subject: str,
        payload: bytes = b"",
        *,
        headers: Headers | None = None,
        reply: str = "",
    ) -> None:
        """Send a message without waiting for anything but room (back-pressure).

        Raises:
            Unavailable: NATS is not connected.
            PayloadTooLarge: The server does not take a message this large.
            Malformed: The subject or a header is none.
        """
        await trio.lowlevel.checkpoint()
        await self._send([Outgoing.checked(subject, payload, reply, headers)])

    def publish_soon(self, subject: str, payload: bytes = b"", *, reply: str = "") -> None:
        """Send a small message without waiting for room, and not at all when not connected.

        For a courtesy of a cancelled task, which cannot wait, and where whoever asks waits for the answer.
        """
        if self._session is not None:
            self._session.send(Outgoing.checked(subject, payload, reply, None))

    async def request(
        self,
        subject: str,
        payload: bytes = b"",
        *,
        headers: Headers | None = None,
        ahead: Sequence[Ahead] = (),
        within: float,
    ) -> RawMessage:
        """Send a request and wait for its reply, in all for at most ``within`` seconds.

        The messages ``ahead`` go right before it, or not at all: subject, payload and headers of each.

        Raises:
            Unavailable: NATS is not connected, or nobody listens there; nothing was done.
            Unanswered: No reply in time, or the connection broke meanwhile.
            PayloadTooLarge: The server does not take a message this large.
            Malformed: The subject or a header is none.
        """
        # No turn of its own: what follows waits anyway.
        await trio.lowlevel.checkpoint_if_cancelled()
        deadline = trio.current_time() + within
        inbox, waiter = self._pending.open(deadline)
        try:
            outgoing = [Outgoing.checked(to, data, "", fields) for to, data, fields in ahead]
            outgoing.append(Outgoing.checked(subject, payload, inbox, headers))
            if not await self._send_before(deadline, outgoing):
                raise Unavailable(
                    f"NATS takes no more: request to {subject} not sent in {within:g} s"
                )
            reply = await waiter.next()
        finally:
            self._pending.close(inbox)
        if reply is None:
            why = "the connection broke" if waiter.lost else f"no answer within {within:g} s"
            raise Unanswered(f"request to {subject}: {why}")
        if reply.status == 503:
            raise Unavailable(f"nobody answers at {subject}")
        return reply

    def open_feed(
        self, subject: str, deliver: Callable[[RawMessage], None], lose: Callable[[], None]
    ) -> Feed:
        """Subscribe, now and with each later connection, until `close_feed`; see `Feed`.

        What is published on this connection after this returned is behind the subscription.

        Raises:
            Malformed: The subject is none.
        """
        feed = Feed(subject, deliver, lose)
        self._feeds.add(feed)
        if self._session is not None:
            self._session.send(feed)
        return feed

    def close_feed(self, feed: Feed) -> None:
        """End a feed. What is under way to it is still delivered, for a moment."""
        self._feeds.discard(feed)
        if self._session is not None:
            self._session.send(feed)

    @asynccontextmanager
    async def subscribe(
        self, subject: str, *, capacity: int = 256
    ) -> AsyncIterator[trio.MemoryReceiveChannel[tuple[str, bytes]]]:
        """Receive plain messages as pairs of subject and payload, over reconnects.

        Lossy, as plain NATS is: what comes while NATS is away or the channel is full is dropped.

        Raises:
            Malformed: The subject is none.
        """
        send, receive = trio.open_memory_channel[tuple[str, bytes]](capacity)

        def deliver(message: RawMessage) -> None:
            with suppress(trio.WouldBlock, trio.BrokenResourceError, trio.ClosedResourceError):
                send.send_nowait((message.subject, message.payload))

        feed = self.open_feed(subject, deliver, lambda: None)
        try:
            with send, receive:
                yield receive
        finally:
            self.close_feed(feed)

    async def _send_before(self, deadline: float, messages: Sequence[Outgoing]) -> bool:
        """As `_send`; return whether there was room before the deadline."""
        if self._outbox.full:
            with trio.move_on_at(deadline):
                await self._send(messages)
                return True
            return False
        await self._send(messages)
        return True

    async def _send(self, messages: Sequence[Outgoing]) -> None:
        """Hand messages to the session as soon as there is room, all or none; waits for nothing else."""
        while True:
            session = self._session
            if session is None:
                # Who tries again at once shall not keep the others from running.
                await trio.lowlevel.checkpoint()
                raise Unavailable(self._status.absence)
            largest, most = max(message.size for message in messages), self._status.max_payload
            if most is not None and largest > most:
                raise PayloadTooLarge(
                    f"message of {largest} bytes: the server takes at most {most}"
                )
            if not self._outbox.full:
                for message in messages:
                    session.send(message)
                return
            await self._outbox.room()

    # Staying connected -----------------------------------------------------------------------------

    async def _stay_connected(self) -> None:
        delay = _FIRST_DELAY_SECONDS
        while True:
            for url in self._urls():
                began = trio.current_time()
                if await self._run_session(url):
                    # One that lived for a moment only is a failed attempt, else it would be tried
                    # again and again without a pause.
                    if trio.current_time() - began > _LONGEST_DELAY_SECONDS:
                        delay = _FIRST_DELAY_SECONDS
                    break
            # Jitter only: which client comes back first is no secret.
            await trio.sleep(delay * random.uniform(0.5, 1.0))  # noqa: S311
            delay = min(delay * 2, _LONGEST_DELAY_SECONDS)

    def _urls(self) -> list[str]:
        """The configured servers in random order, then what they told of their cluster."""
        given = list(self._options.urls)
        # Whoever may log in to one server of a cluster may log in to the others.
        first = given[0]
        head, at, _ = first.rpartition("@")
        scheme, slashes, _ = first.rpartition("://")
        prefix = head + at or scheme + slashes
        random.shuffle(given)
        return given + [prefix + address for address in self._discovered]

    async def _run_session(self, url: str) -> bool:
        """Connect and stay connected for as long as it lasts; return whether it came to that."""
        reason: str | None = None

        def on_error(text: str) -> None:
            nonlocal reason
            reason = text
            if "permissions violation" in text.lower():
                # The connection goes on, and those who asked only see that nobody answers.
                log.warning("NATS does not permit it", reason=text)

        session = Session(self._options, self._outbox, self._feeds, on_error)
        try:
            try:
                await self._loop.run_aio_coroutine(session.connect(url))
                session.begin()
            # nats-py promises nothing narrower; whatever it is, the next attempt may do better.
            except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001
                self._failed(reason or text_of(error))
                return False
            self._connected(session)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(session.pump)
                await session.ended()
                nursery.cancel_scope.cancel()
            log.warning("NATS connection lost", reason=reason, epoch=self.epoch)
            self._discovered = session.discovered or self._discovered
            return True
        finally:
            self._disconnected(reason)
            with trio.CancelScope(shield=True):
                await self._loop.run_aio_coroutine(session.close())

    def _failed(self, reason: str) -> None:
        if self._status.last_error != reason:
            log.warning("NATS not reached, trying on", reason=reason)
            self._set_status(last_error=reason)

    def _connected(self, session: Session) -> None:
        epoch = self._status.epoch + 1
        self._session = session
        self._set_status(
            connected=True,
            epoch=epoch,
            reconnects=epoch - 1,
            server=session.server,
            server_version=session.server_version,
            max_payload=session.max_payload,
        )
        self._discovered = session.discovered or self._discovered
        log.info("connected to NATS", server=self._status.server, epoch=epoch)

    def _disconnected(self, reason: str | None) -> None:
        self._session = None
        if self._status.connected:
            self._set_status(connected=False, last_error=reason or "the connection was lost")
        self._outbox.clear()
        for feed in tuple(self._feeds):
            feed.lose()


@asynccontextmanager
async def open_connection(options: ConnectionOptions) -> AsyncIterator[Connection]:
    """Keep a connection to NATS for the length of the block.

    The block is entered at once, whether NATS is there or not. A block that is cancelled still has its
    connection while it cleans up. Leaving takes at most a second or two. What the block raises comes out as
    it is.

    Args:
        options: Where NATS is.
    """
    failed: Exception | None = None
    leaving = trio.Event()
    async with trio.open_nursery() as nursery:
        connection: Connection = await nursery.start(_keep_connection, options, leaving)
        try:
            yield connection
        except Exception as error:  # noqa: BLE001 - raised again below: nurseries would wrap it
            failed = error
        finally:
            leaving.set()
    if failed is not None:
        raise failed


async def _keep_connection(
    options: ConnectionOptions, leaving: trio.Event, *, task_status: trio.TaskStatus[Connection]
) -> None:
    # Shielded, since the block sets `leaving` however it ends.
    with trio.CancelScope(shield=True):
        async with open_asyncio_loop() as loop:
            # The default handler ends the whole loop for one future nobody looked at.
            loop.set_exception_handler(_log_asyncio_error)
            connection = Connection(loop, options)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(connection._stay_connected, name="NATS connection")
                nursery.start_soon(connection._pending.keep_deadlines)
                task_status.started(connection)
                await leaving.wait()
                nursery.cancel_scope.cancel()


def _log_asyncio_error(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    log.debug("asyncio", reason=str(context.get("exception") or context.get("message")))
