"""One client's connection: hypercorn's HTTP/1.1 over a socket, with a limit to each wait.

hypercorn's own connection waits for ever for a slow body, and for a client that takes nothing of what it
is sent (hypercorn 0.18, trio/tcp_server.py), so its protocol is driven from here instead.
"""

from __future__ import annotations

import json
import math

import h11
import trio
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.trio.task_group import TaskGroup
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import AppWrapper, ConnectionState
from hypercorn.utils import parse_socket_addr

from pyoco_server.model.errors import ErrorId
from pyoco_server.settings import Settings

_HEAD_BYTES = 16 * 1024
_READ_BYTES = 64 * 1024
# How long a client is heard, and what it still sends thrown away, after its answer and our end of the
# connection: to close at once would reset the connection and with it an answer under way (RFC 9112, 9.6).
_LINGER_SECONDS = 15.0

_REASONS = {
    400: "bad request",
    408: "request timeout",
    431: "request header fields too large",
    501: "not implemented",
    503: "too many connections",
    505: "http version not supported",
}


class _Protocol(H11Protocol):
    """HTTP/1.1 only: no change to HTTP/2 or WebSockets, nothing ambiguous, and errors with a body."""

    async def _check_protocol(self, event: h11.Request) -> None:
        pass  # `Upgrade` is ignored, as RFC 9110 (7.8) lets a server do

    async def _create_stream(self, request: h11.Request) -> None:
        status = _refused(request)
        if status is not None:
            await self._send_error_response(status)
            await self.send(Closed())
            return
        headers = [(name, value) for name, value in request.headers if name != b"upgrade"]
        await super()._create_stream(
            h11.Request(
                method=request.method,
                target=request.target,
                headers=headers,
                http_version=request.http_version,
            )
        )

    async def _send_error_response(self, status_code: int) -> None:
        await self._send_h11_event(
            h11.Response(status_code=status_code, headers=error_headers(status_code))
        )
        await self._send_h11_event(h11.Data(data=error_body(status_code)))
        await self._send_h11_event(h11.EndOfMessage())


def _refused(request: h11.Request) -> int | None:
    """The status that refuses the head of a request; None for one that is taken."""
    names = {name for name, _ in request.headers}
    if {b"transfer-encoding", b"content-length"} <= names:
        return 400  # which of the two counts is what request smuggling is about (RFC 9112, 6.1)
    if request.http_version not in {b"1.0", b"1.1"}:
        return 505
    # h11 looks at the size only of a head that has not come in whole.
    size = len(request.target) + sum(len(name) + len(value) for name, value in request.headers)
    return 431 if size > _HEAD_BYTES else None


class Connection:
    """Serves one connection to its end.

    Args:
        app: The application, as hypercorn wraps it.
        config: hypercorn's.
        context: hypercorn's, common to all connections of a server.
        settings: Time limits.
        stream: The socket.
    """

    def __init__(
        self,
        app: AppWrapper,
        config: Config,
        context: WorkerContext,
        settings: Settings,
        stream: trio.SocketStream,
    ) -> None:
        self._app = app
        self._config = config
        self._context = context
        self._head_seconds = settings.http_head_timeout_sec
        self._send_seconds = settings.http_send_timeout_sec
        self._stream = stream
        self._sending = trio.Lock()
        self._reading = trio.CancelScope()
        self._idle = True
        self._closing = False
        self._broken = False

    async def run(self) -> None:
        """Serve until either side closes, or a time limit is passed."""
        try:
            socket = self._stream.socket
            client = parse_socket_addr(socket.family, socket.getpeername())
            server = parse_socket_addr(socket.family, socket.getsockname())
        except OSError:
            await trio.aclose_forcefully(self._stream)
            return  # the client was gone before it began
        try:
            async with TaskGroup() as tasks:
                protocol = _Protocol(
                    self._app,
                    self._config,
                    self._context,
                    tasks,
                    ConnectionState({}),
                    False,
                    client,
                    server,
                    self._on_event,
                )
                await self._read(protocol)
                await protocol.handle(Closed())
            if protocol.connection.their_state in {h11.SEND_BODY, h11.ERROR} or self._late:
                await self._linger()
        finally:
            await trio.aclose_forcefully(self._stream)

    def stop(self) -> None:
        """Take no further request: close now when idle, else after the answer under way."""
        if self._idle:
            self._closing = True
            self._reading.cancel()

    def abort(self) -> None:
        """Close now, whatever is under way."""
        self._stream.socket.close()

    async def _read(self, protocol: _Protocol) -> None:
        with self._reading:
            self._wait_for_head()
            while True:
                try:
                    data = await self._stream.receive_some(_READ_BYTES)
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    return
                await protocol.handle(RawData(bytes(data)))
                if not data:
                    return
        if self._late and protocol.connection.trailing_data[0]:
            await protocol._send_error_response(408)

    @property
    def _late(self) -> bool:
        """Whether a time limit has ended the connection."""
        return self._reading.cancelled_caught and not self._closing

    def _wait_for_head(self) -> None:
        self._idle = True
        self._reading.deadline = trio.current_time() + self._head_seconds

    async def _on_event(self, event: Event) -> None:
        match event:
            case RawData():
                await self._send(event.data)
            case Updated(idle=True):
                self._wait_for_head()
                if self._context.terminated.is_set():
                    self.stop()
            case Updated():
                self._idle = False
                self._reading.deadline = math.inf
            case _:  # Closed
                self._closing = True
                self._reading.cancel()

    async def _send(self, data: bytes) -> None:
        async with self._sending:
            if self._broken:
                return
            # Shielded, so that what is cancelled in between never leaves half a chunk behind.
            deadline = trio.current_time() + self._send_seconds
            with trio.CancelScope(shield=True, deadline=deadline) as scope:
                try:
                    await self._stream.send_all(data)
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    self._broken = True
            if scope.cancelled_caught:
                self._broken = True
        if self._broken:
            self._closing = True
            self._reading.cancel()

    async def _linger(self) -> None:
        if self._broken:
            return
        with trio.move_on_after(_LINGER_SECONDS):
            try:
                await self._stream.send_eof()
                while await self._stream.receive_some(_READ_BYTES):
                    pass
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return


async def refuse(stream: trio.SocketStream, status: int) -> None:
    """Tell a client that there is no room for its connection, and close it. Takes a second at most."""
    head = [f"HTTP/1.1 {status} {_REASONS[status].title()}".encode()]
    head += [name + b": " + value for name, value in error_headers(status)]
    try:
        with trio.move_on_after(1.0):
            await stream.send_all(b"\r\n".join([*head, b"", error_body(status)]))
            await stream.send_eof()
            while await stream.receive_some(_READ_BYTES):
                pass
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        return
    finally:
        await trio.aclose_forcefully(stream)


def error_body(status: int) -> bytes:
    """The problem that answers what is no request that the application could see."""
    reason = _REASONS.get(status, "bad request")
    error_id = ErrorId.TOO_MANY_REQUESTS if status == 503 else ErrorId.INVALID_INPUT
    problem = {
        "type": "about:blank",
        "title": error_id.text,
        "status": status,
        "detail": reason,
        "err_id": error_id.value,
        "msg_id": error_id.msg_id,
    }
    return json.dumps(problem).encode()


def error_headers(status: int) -> list[tuple[bytes, bytes]]:
    """The headers of that answer."""
    headers = [
        (b"content-type", b"application/problem+json"),
        (b"content-length", str(len(error_body(status))).encode()),
        (b"connection", b"close"),
    ]
    return [*headers, (b"retry-after", b"1")] if status == 503 else headers
