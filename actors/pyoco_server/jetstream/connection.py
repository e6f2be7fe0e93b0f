"""The connection to NATS: comes back for ever, and carries requests pipelined through one pump.

nats-py is used for its protocol only. Its own reconnecting is turned off: each connection is a client
of its own (an *epoch*), so that nothing of a broken one (buffered publishes, futures that never end) is
left to the next.
"""

from __future__ import annotations

import asyncio
import uuid
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

import nats.errors
import structlog
import trio
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from trio_asyncio import TrioEventLoop
from trio_asyncio import open_loop as open_asyncio_loop

from pyoco_server.jetstream.errors import PayloadTooLarge, Unavailable
from pyoco_server.jetstream.requests import Headers, Reply, Switchboard, single_reply

log = structlog.get_logger(__name__)

_CONNECT_SECONDS = 5.0
_PING_SECONDS = 5.0
_LOOK_SECONDS = 0.25
_CLOSE_SECONDS = 1.0
_FIRST_DELAY_SECONDS = 0.05
_LONGEST_DELAY_SECONDS = 2.0
_OUTBOX_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class ConnectionOptions:
    """How to reach NATS.

    Attributes:
        urls: One or more servers.
        name: How this client calls itself; shown by the server's monitoring.
        user: User name, unless a URL holds it.
        password: Password, unless a URL holds it.
        credentials: Path of a credentials file.
    """

    urls: Sequence[str]
    name: str = "pyoco-server"
    user: str | None = None
    password: str | None = None
    credentials: str | None = None


@dataclass(frozen=True)
class ConnectionStatus:
    """How the connection is now.

    Attributes:
        connected: Whether requests can be sent.
        epoch: Rises by one with each new connection; 0 before the first.
        reconnects: How often it came back.
        server: URL of the server, without user and password.
        server_version: What it runs.
        max_payload: The largest message it takes, in bytes.
        last_error: Why the last connection or attempt failed.
    """

    connected: bool = False
    epoch: int = 0
    reconnects: int = 0
    server: str | None = None
    server_version: str | None = None
    max_payload: int | None = None
    last_error: str | None = None


@dataclass(frozen=True, slots=True)
class _Outgoing:
    subject: str
    payload: bytes
    reply: str
    headers: dict[str, str] | None


@dataclass(frozen=True, eq=False)
class Feed:
    """A subscription that is made again with each connection.

    Attributes:
        subject: A subject, or a pattern.
        deliver: Told each message; must not block.
        lose: Told each time a connection ended.
    """

    subject: str
    deliver: Callable[[Reply], None]
    lose: Callable[[], None]


class Connection:
    """Made by `open_connection`. Every method is for trio tasks and is cancelled at once."""

    def __init__(self, loop: TrioEventLoop, options: ConnectionOptions) -> None:
        self._loop = loop
        self._options = options
        self._status = ConnectionStatus()
        self._changed = trio.Event()
        self._switchboard = Switchboard(new_inbox())
        self._outbox: deque[_Outgoing | Feed] = deque()
        self._outbox_bytes = 0
        self._outbox_shrunk = trio.Event()
        self._wake_pump = asyncio.Event()
        switchboard = self._switchboard
        replies = Feed(f"{switchboard.inbox}.*", switchboard.deliver, switchboard.lose_all)
        self._feeds = {replies}
        # The feeds of the present client and their subscriptions there.
        self._subscribed: dict[Feed, Subscription] = {}

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
        raise Unavailable(
            f"NATS not connected within {within:g} s at {', '.join(self._options.urls)}: "
            f"{self._status.last_error or 'no answer'}"
        )

    def _set_status(self, **changes: Any) -> None:
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
        """
        await trio.lowlevel.checkpoint()
        while True:
            self._require_sendable(len(payload))
            if self._outbox_bytes < _OUTBOX_BYTES:
                break
            await self._outbox_shrunk.wait()
        self._outbox.append(_Outgoing(subject, payload, reply, dict(headers) if headers else None))
        self._outbox_bytes += len(payload)
        self._wake_pump.set()

    async def request(
        self, subject: str, payload: bytes = b"", *, headers: Headers | None = None, within: float
    ) -> Reply:
        """Send a request and wait for its reply for at most ``within`` seconds.

        Raises:
            Unavailable: NATS is not connected, or nobody listens there.
            Unanswered: No reply in time, or the connection broke meanwhile.
            PayloadTooLarge: The server does not take a message this large.
        """
        inbox, waiter = self._switchboard.open()
        try:
            await self.publish(subject, payload, headers=headers, reply=inbox)
            reply = await single_reply(waiter, within, f"request to {subject}")
        finally:
            self._switchboard.close(inbox)
        if reply.status == 503:
            raise Unavailable(f"nobody answers at {subject}")
        return reply

    def open_feed(
        self, subject: str, deliver: Callable[[Reply], None], lose: Callable[[], None]
    ) -> Feed:
        """Subscribe, now and with each later connection, until `close_feed`.

        What is published after this returned is behind the subscription.
        """
        feed = Feed(subject, deliver, lose)
        self._feeds.add(feed)
        if self._status.connected:
            self._outbox.append(feed)
            self._wake_pump.set()
        return feed

    def close_feed(self, feed: Feed) -> None:
        """End a feed; nothing more is delivered to it."""
        self._feeds.discard(feed)
        if feed in self._subscribed:
            self._outbox.append(feed)
            self._wake_pump.set()

    @asynccontextmanager
    async def subscribe(
        self, subject: str, *, capacity: int = 256
    ) -> AsyncIterator[trio.MemoryReceiveChannel[tuple[str, bytes]]]:
        """Receive plain messages as pairs of subject and payload, over reconnects.

        Lossy, as plain NATS is: what comes while NATS is away or the channel is full is dropped.
        """
        send, receive = trio.open_memory_channel[tuple[str, bytes]](capacity)

        def deliver(message: Reply) -> None:
            with suppress(trio.WouldBlock):
                send.send_nowait((message.subject, message.payload))

        feed = self.open_feed(subject, deliver, lambda: None)
        try:
            yield receive
        finally:
            self.close_feed(feed)

    def _require_sendable(self, size: int) -> None:
        status = self._status
        if not status.connected:
            raise Unavailable(f"NATS is not connected: {status.last_error or 'connecting'}")
        if status.max_payload is not None and size > status.max_payload:
            raise PayloadTooLarge(
                f"message of {size} bytes: the server takes at most {status.max_payload}"
            )

    def give_back(self, reply: Reply) -> None:
        """Have a delivered message delivered again: it came for a pull that was cancelled."""
        if reply.reply.startswith("$JS.ACK.") and self._status.connected:
            self._outbox.append(_Outgoing(reply.reply, b"-NAK", "", None))
            self._wake_pump.set()

    # The asyncio side ------------------------------------------------------------------------------

    async def _stay_connected(self) -> None:
        delay = _FIRST_DELAY_SECONDS
        while True:
            client = Client()
            gone = trio.Event()
            try:
                await self._loop.run_aio_coroutine(self._connect(client, gone))
            except (TimeoutError, OSError, nats.errors.Error, ValueError) as error:
                self._set_status(last_error=_text(error))
            else:
                delay = _FIRST_DELAY_SECONDS
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._loop.run_aio_coroutine, self._pump(client))
                    await self._until_gone(client, gone)
                    nursery.cancel_scope.cancel()
            finally:
                self._disconnected()
                await self._discard(client)
            await trio.sleep(delay)
            delay = min(delay * 2, _LONGEST_DELAY_SECONDS)

    async def _connect(self, client: Client, gone: trio.Event) -> None:
        async def on_error(error: Exception) -> None:
            self._set_status(last_error=_text(error))

        async def on_gone() -> None:
            gone.set()

        options = self._options
        await asyncio.wait_for(
            client.connect(
                servers=list(options.urls),
                name=options.name,
                user=options.user,
                password=options.password,
                user_credentials=options.credentials,
                allow_reconnect=False,
                connect_timeout=2,
                ping_interval=_PING_SECONDS,  # type: ignore[arg-type] # passed to asyncio.sleep
                max_outstanding_pings=2,
                error_cb=on_error,
                disconnected_cb=on_gone,
                closed_cb=on_gone,
            ),
            _CONNECT_SECONDS,
        )

        self._subscribed = {}
        while missing := self._feeds - self._subscribed.keys():
            for feed in missing:
                await self._subscribe(client, feed)
        url = client.connected_url
        first = self._status.epoch == 0
        self._set_status(
            connected=True,
            epoch=self._status.epoch + 1,
            reconnects=self._status.reconnects + (0 if first else 1),
            server=None if url is None else f"{url.scheme}://{url.hostname}:{url.port}",
            server_version=str(client.connected_server_version),
            max_payload=client.max_payload,
        )
        log.info("connected to NATS", server=self._status.server, epoch=self._status.epoch)

    async def _subscribe(self, client: Client, feed: Feed) -> None:
        async def on_message(message: Msg) -> None:
            if feed in self._feeds:
                feed.deliver(_reply(message))

        # Feeds ask for what they get, or drop it themselves: a limit here could only lose what was
        # asked for.
        self._subscribed[feed] = await client.subscribe(
            feed.subject, cb=on_message, pending_msgs_limit=1_000_000, pending_bytes_limit=0
        )

    async def _send(self, client: Client, out: _Outgoing | Feed) -> None:
        if isinstance(out, _Outgoing):
            self._outbox_bytes -= len(out.payload)
            await client.publish(out.subject, out.payload, out.reply, headers=out.headers)
        elif out in self._feeds:
            if out not in self._subscribed:
                await self._subscribe(client, out)
        elif out in self._subscribed:
            await self._subscribed.pop(out).unsubscribe()

    async def _pump(self, client: Client) -> None:
        while True:
            while self._outbox:
                try:
                    await self._send(client, self._outbox.popleft())
                except (OSError, nats.errors.Error) as error:
                    log.debug("sending on a broken connection", reason=_text(error))
                    return
            shrunk, self._outbox_shrunk = self._outbox_shrunk, trio.Event()
            shrunk.set()
            await self._wake_pump.wait()
            self._wake_pump.clear()

    async def _until_gone(self, client: Client, gone: trio.Event) -> None:
        """Wait for the end of the client; looks for itself too, since one that hangs tells nobody.

        A read loop that died on a protocol surprise leaves nats-py "connected" (its client.py logs
        and breaks), and closing a stalled connection waits for a drain that may never come.
        """
        while client.is_connected and not client._reading_task.done():  # type: ignore[union-attr]
            with trio.move_on_after(_LOOK_SECONDS):
                await gone.wait()
                return

    def _disconnected(self) -> None:
        self._subscribed = {}
        self._outbox.clear()
        self._outbox_bytes = 0
        if self._status.connected:
            error = self._status.last_error or "the connection was lost"
            self._set_status(connected=False, last_error=error)
            log.warning("NATS connection lost", reason=error)
        self._outbox_shrunk.set()
        for feed in tuple(self._feeds):
            feed.lose()

    async def _discard(self, client: Client) -> None:
        """Close a client within bounds, whatever state its socket is in."""
        with trio.CancelScope(shield=True):
            await self._loop.run_aio_coroutine(_close(client))


async def _close(client: Client) -> None:
    # nats-py's close waits for the socket to drain; aborting the transport first makes it give up on a
    # peer that does not read. Nothing of value is buffered: every request is answered or has failed.
    transport = getattr(client, "_transport", None)
    writer = getattr(transport, "_io_writer", None)
    if writer is not None:
        writer.transport.abort()
    with suppress(OSError, nats.errors.Error, asyncio.TimeoutError):
        await asyncio.wait_for(client.close(), _CLOSE_SECONDS)


def _reply(message: Msg) -> Reply:
    # nats-py names some headers by members of an enum.
    headers: Mapping[str, str] = {str(k): v for k, v in (message.headers or {}).items()}
    return Reply(message.subject, message.data, headers, message.reply)


def new_inbox() -> str:
    """A subject for replies that nobody else uses."""
    return f"_INBOX.{uuid.uuid4().hex}"


def _text(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


@asynccontextmanager
async def open_connection(options: ConnectionOptions) -> AsyncIterator[Connection]:
    """Keep a connection to NATS for the length of the block.

    The block is entered at once, whether NATS is there or not. Leaving it, also by cancellation, takes
    at most a second or two.

    Args:
        options: Where NATS is.
    """
    async with open_asyncio_loop() as loop:
        # The default handler ends the whole loop for one future nobody looked at.
        loop.set_exception_handler(_log_asyncio_error)
        connection = Connection(loop, options)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(connection._stay_connected, name="NATS connection")
            yield connection
            nursery.cancel_scope.cancel()


def _log_asyncio_error(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    log.debug("asyncio", reason=str(context.get("exception") or context.get("message")))
