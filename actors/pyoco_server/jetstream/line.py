"""The line to the server, between its transport and nats-py.

What comes for our subscriptions is handed to its feed as it is read: no queue and no task in between. All
else (PING, PONG, INFO, errors, the end) is nats-py's, which reads it as if it had the line for itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import nats.errors
import structlog
import trio

from pyoco_server.jetstream.outbox import Feed
from pyoco_server.jetstream.requests import RawMessage

log = structlog.get_logger(__name__)

_END = b"\r\n"
# Of a line without its end. INFO of a large cluster is the longest, with some KiB.
_LONGEST_LINE = 1024 * 1024
# More than this much unwritten, and the rest waits in the outbox.
_UNWRITTEN_BYTES = 1024 * 1024


class Line(asyncio.Protocol):
    """Takes a transport over from nats-py, which has connected it.

    Args:
        transport: The transport, after the login.
        feeds: Who is told what comes, by the id of the subscription; always as it is now.

    Attributes:
        quiet: Whether nothing was written since something was read, and at most one was waiting for that.
            What is written then needs not wait for others that might come at the same moment.
    """

    def __init__(self, transport: Any, feeds: Mapping[bytes, Feed]) -> None:
        self.quiet = True
        self._transport = transport
        self._feeds = feeds
        self._theirs = transport.get_protocol()
        # The beginning of what is not complete yet, and how many bytes it needs in all.
        self._pieces: list[bytes] = []
        self._held = 0
        self._needed = 0
        self._room: trio.Event | None = None
        transport.set_protocol(self)
        transport.set_write_buffer_limits(high=_UNWRITTEN_BYTES)

    # Writing -----------------------------------------------------------------------------------------

    @property
    def has_room(self) -> bool:
        """Whether more should be written now."""
        return self._room is None

    def write(self, data: bytes) -> None:
        """Write, or have it written as soon as the server reads."""
        self.quiet = False
        self._transport.write(data)

    async def room(self) -> None:
        """Wait until the server has read enough of what was written, or the line is lost."""
        if self._room is not None:
            await self._room.wait()

    # What the transport tells --------------------------------------------------------------------------

    def pause_writing(self) -> None:
        """The server does not read as fast as we write."""
        self._room = trio.Event()

    def resume_writing(self) -> None:
        """It has caught up."""
        if self._room is not None:
            self._room.set()
            self._room = None

    def eof_received(self) -> bool | None:
        """The server has closed its side."""
        closes: bool | None = self._theirs.eof_received()
        return closes

    def connection_lost(self, exc: Exception | None) -> None:
        """The line is no more."""
        self.resume_writing()
        self._theirs.connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Something was read.

        Raises:
            ProtocolError: It is not the protocol of NATS; the transport closes then.
        """
        if self._pieces:
            self._pieces.append(data)
            self._held += len(data)
            if self._held < self._needed:
                return
            data = b"".join(self._pieces)
            self._pieces.clear()
        at, delivered = 0, 0
        while at < len(data):
            end = data.find(_END, at)
            if end < 0:
                if len(data) - at > _LONGEST_LINE:
                    raise nats.errors.ProtocolError
                self._hold(data[at:], len(data) - at + 1)
                break
            begin = end + len(_END)
            fields = data[at:end].split()
            if not fields or fields[0] not in (b"MSG", b"HMSG"):
                self._theirs.data_received(data[at:begin])
                at = begin
                continue
            sid, subject, reply, before, total = _message(fields)
            stop = begin + total
            if stop + len(_END) > len(data):
                self._hold(data[at:], stop + len(_END) - at)
                break
            at = stop + len(_END)
            delivered += 1
            feed = self._feeds.get(sid)
            if feed is None:
                continue
            body = begin + before
            try:
                feed.deliver(
                    RawMessage(subject.decode(), data[body:stop], data[begin:body], reply.decode())
                )
            # Whatever one message does to its reader, the others have theirs to come.
            except Exception:
                log.exception("a message was not taken", subject=subject)
        self.quiet = delivered <= 1

    def _hold(self, piece: bytes, needed: int) -> None:
        self._pieces.append(piece)
        self._held = len(piece)
        self._needed = needed


def _message(fields: list[bytes]) -> tuple[bytes, bytes, bytes, int, int]:
    """Read the line before a message: subscription, subject, reply, size of the headers, size in all."""
    try:
        match fields:
            case [b"MSG", subject, sid, total]:
                reply, before = b"", b"0"
            case [b"MSG", subject, sid, reply, total]:
                before = b"0"
            case [b"HMSG", subject, sid, before, total]:
                reply = b""
            case [b"HMSG", subject, sid, reply, before, total]:
                pass
            case _:
                raise nats.errors.ProtocolError
        headers_size, size = int(before), int(total)
    except ValueError:
        raise nats.errors.ProtocolError from None
    if not 0 <= headers_size <= size:
        raise nats.errors.ProtocolError
    return sid, subject, reply, headers_size, size
