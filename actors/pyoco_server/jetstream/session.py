"""One connection from its beginning to its end: the asyncio side of the bridge.

nats-py connects, logs in, and keeps the connection alive; messages go past it (`line`). Its own
reconnecting is turned off: each connection is a client of its own, so that nothing of a broken one (futures
that never end, a read loop that died without telling) is left to the next.
"""

from __future__ import annotations

import asyncio
import itertools
import ssl
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import ParseResult

import nats.errors
import structlog
import trio
from nats.aio.client import Client

from pyoco_server.jetstream.line import Line
from pyoco_server.jetstream.outbox import Feed, Outbox, Outgoing
from pyoco_server.settings import Settings

log = structlog.get_logger(__name__)

_CONNECT_SECONDS = 3.0
_ANSWER_SECONDS = 2
_PING_SECONDS = 5
_CLOSE_SECONDS = 1.0
# How long what is under way to a closed feed is still heard.
_LATE_SECONDS = 2.0
# Written at once where so much waits.
_WRITE_BYTES = 256 * 1024


@dataclass(frozen=True, kw_only=True)
class ConnectionOptions:
    """How to reach NATS.

    Attributes:
        urls: One or more servers; further ones of a cluster are learned from these.
        name: How this client calls itself; shown by the server's monitoring.
        user: User name, unless a URL holds it.
        password: Password, unless a URL holds it.
        credentials: Path of a credentials file.
        tls_ca: Path of the certificates to trust, for servers that want TLS; the system's when None.
        tls_cert: Path of a certificate of our own, for servers that want one.
        tls_key: Path of its key.
    """

    urls: Sequence[str]
    name: str = "pyoco-server"
    user: str | None = None
    password: str | None = None
    credentials: str | None = None
    tls_ca: str | None = None
    tls_cert: str | None = None
    tls_key: str | None = None

    @classmethod
    def of(cls, settings: Settings, *, name: str) -> ConnectionOptions:
        """What the settings say of the connection."""
        return cls(
            urls=tuple(settings.nats_url.split(",")),
            name=name,
            user=settings.nats_user,
            password=settings.nats_password,
            credentials=settings.nats_credentials,
            tls_ca=settings.nats_tls_ca,
            tls_cert=settings.nats_tls_cert,
            tls_key=settings.nats_tls_key,
        )

    def tls_context(self) -> ssl.SSLContext | None:
        """What nats-py needs for TLS; None leaves it to the server and the URL.

        Raises:
            OSError: A file cannot be read, or holds no certificate or key; the text names it.
        """
        if self.tls_ca is None and self.tls_cert is None:
            return None
        files = self.tls_ca
        try:
            context = ssl.create_default_context(cafile=self.tls_ca)
            if self.tls_cert is not None:
                files = f"{self.tls_cert} with key {self.tls_key or 'in the same file'}"
                context.load_cert_chain(self.tls_cert, self.tls_key)
        except OSError as error:  # an SSLError is one, and neither names the file
            raise OSError(f"certificate {files}: {error}") from None
        return context


class Session:
    """A client of nats-py and what it takes to use it safely.

    Args:
        options: How to reach NATS.
        outbox: What to write.
        feeds: What to subscribe to, always as it is now.
        on_error: Told what went wrong, as text.
    """

    def __init__(
        self,
        options: ConnectionOptions,
        outbox: Outbox,
        feeds: set[Feed],
        on_error: Callable[[str], None],
    ) -> None:
        self._options = options
        self._outbox = outbox
        self._feeds = feeds
        self._on_error = on_error
        self._client = Client()
        self._begun = False
        self._ended = trio.Event()
        self._line: Line | None = None
        self._ids = itertools.count(1)
        self._subscriptions: dict[Feed, bytes] = {}
        # Who is told what comes for a subscription. Those that the server has been told to end are among
        # them until what was under way has come.
        self._told: dict[bytes, Feed] = {}

    # For trio ------------------------------------------------------------------------------------

    @property
    def server(self) -> str | None:
        """URL of the server, without user and password."""
        url = self._client.connected_url
        return None if url is None else f"{url.scheme}://{_address(url)}"

    @property
    def server_version(self) -> str:
        """What the server runs, such as ``2.12.0``."""
        version = self._client.connected_server_version
        return f"{version.major}.{version.minor}.{version.patch}"

    @property
    def max_payload(self) -> int:
        """The largest message that the server takes, in bytes."""
        return self._client.max_payload

    @property
    def discovered(self) -> tuple[str, ...]:
        """The other servers of the cluster, as ``host:port``."""
        return tuple(_address(url) for url in self._client.discovered_servers)

    def begin(self) -> None:
        """Take the connection over once it is made, and subscribe to all feeds."""
        stream = _stream(self._client)
        assert stream is not None, "nats-py is not connected"
        # A read loop or flusher that died of a surprise leaves nats-py "connected" (its client.py logs and
        # breaks), and it waits for a stalled connection to drain before it tells that it closed it.
        for task in (self._client._reading_task, self._client._flusher_task):
            assert task is not None, "nats-py is not connected"
            task.add_done_callback(lambda _: self._ended.set())
        self._line = Line(stream.transport, self._told)
        self._line.write(b"".join(self._subscribe(feed) for feed in self._feeds))

    def send(self, item: Outgoing | Feed) -> None:
        """Have it written: at once, or with what else comes in this turn of tasks.

        What follows on a single message is written at once, since it is likely to be all. Where there is
        more, one further turn of tasks costs less than a write for each.
        """
        self._outbox.put(item)
        if self._line is not None and self._line.quiet and self._line.has_room:
            self._flush(self._line)
        else:
            self._outbox.ring()

    async def pump(self) -> None:
        """Write what waits in the outbox, until cancelled."""
        assert self._line is not None
        while True:
            await self._outbox.rung()
            await self._line.room()
            self._flush(self._line)

    async def ended(self) -> None:
        """Wait for the end of the session."""
        await self._ended.wait()

    # For asyncio ---------------------------------------------------------------------------------

    async def connect(self, url: str) -> None:
        """Connect and log in.

        Raises:
            Exception: It could not be done; nats-py has no narrower promise.
        """
        options = self._options
        tls = options.tls_context()
        self._begun = True
        self._loop = asyncio.get_running_loop()

        async def on_error(error: Exception) -> None:
            self._on_error(text_of(error))

        async def on_end() -> None:
            self._ended.set()

        connecting = self._client.connect(
            servers=[url],
            name=options.name,
            user=options.user,
            password=options.password,
            user_credentials=options.credentials,
            tls=tls,
            allow_reconnect=False,
            # Of the attempts, not of a connection: without these it tries for minutes by itself.
            max_reconnect_attempts=1,
            reconnect_time_wait=0,
            connect_timeout=_ANSWER_SECONDS,
            ping_interval=_PING_SECONDS,
            max_outstanding_pings=2,
            error_cb=on_error,
            disconnected_cb=on_end,
            closed_cb=on_end,
        )
        await asyncio.wait_for(connecting, _CONNECT_SECONDS)

    async def close(self) -> None:
        """Close the client within bounds, whatever state its socket is in."""
        self._ended.set()
        if not self._begun:  # nats-py cannot close what it never opened
            return
        # nats-py's close waits for the socket to drain; aborting it first makes it give up on a peer that
        # does not read. Nothing of value is buffered: every request is answered or has failed.
        stream = _stream(self._client)
        if stream is not None:
            stream.transport.abort()
        try:
            await asyncio.wait_for(self._client.close(), _CLOSE_SECONDS)
        except (TimeoutError, OSError, nats.errors.Error) as error:
            log.debug("closing a broken connection", reason=text_of(error))
        except Exception:  # whatever nats-py came upon: it must not end those who connect anew
            log.exception("closing failed")

    # What is written -----------------------------------------------------------------------------------

    def _flush(self, line: Line) -> None:
        """Write what is in the outbox, as far as the server reads it."""
        try:
            while line.has_room:
                if data := b"".join(self._pieces()):
                    line.write(data)
                else:
                    return
        except Exception:  # whatever the transport came upon: the next session starts afresh
            log.exception("writing failed, connecting anew")
            self._ended.set()
        else:
            self._outbox.ring()

    def _pieces(self) -> Iterator[bytes]:
        size = 0
        while size < _WRITE_BYTES and (item := self._outbox.take()) is not None:
            if isinstance(item, Outgoing):
                yield item.head
                yield item.payload
                yield b"\r\n"
                size += item.size
            elif item in self._feeds:
                if item not in self._subscriptions:
                    yield self._subscribe(item)
            elif item in self._subscriptions:
                yield self._unsubscribe(item)

    def _subscribe(self, feed: Feed) -> bytes:
        subscription = self._subscriptions[feed] = b"%d" % next(self._ids)
        self._told[subscription] = feed
        return b"SUB %s  %s\r\n" % (feed.subject.encode(), subscription)

    def _unsubscribe(self, feed: Feed) -> bytes:
        subscription = self._subscriptions.pop(feed)
        self._loop.call_later(_LATE_SECONDS, self._told.pop, subscription)
        return b"UNSUB %s\r\n" % subscription


def _stream(client: Client) -> asyncio.StreamWriter | None:
    """What nats-py writes to; None before it has connected. It is private there (its transport.py)."""
    return getattr(client._transport, "_io_writer", None)


def _address(url: ParseResult) -> str:
    """Host and port of a URL, without its user."""
    host = url.hostname or ""
    return f"[{host}]:{url.port}" if ":" in host else f"{host}:{url.port}"


def text_of(error: BaseException) -> str:
    """An error in one line."""
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
