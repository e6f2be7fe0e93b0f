"""One client's connection: HTTP/1.1 by h11 over a socket, with a limit to each wait.

A short route is answered in the connection's own task, with one write. Everything else is the application's,
which hypercorn runs: its streams speak ASGI to it. hypercorn's own connections wait for ever for a slow body,
and for a client that takes nothing of what it is sent (hypercorn 0.18, trio/tcp_server.py).
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import unquote, urlsplit

import h11
import trio
from hypercorn.config import Config
from hypercorn.protocol.events import Body as BodyPiece
from hypercorn.protocol.events import EndBody, Event, Request, Response, StreamClosed
from hypercorn.protocol.http_stream import ASGIHTTPState, HTTPStream
from hypercorn.trio.task_group import TaskGroup
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState
from hypercorn.utils import wrap_app
from werkzeug.exceptions import InternalServerError

from pyoco_http import browsers
from pyoco_http.app import GatewayApp
from pyoco_http.bodies import BYTES_A_SECOND, Body
from pyoco_http.call import Answer, Call
from pyoco_http.departures import Departures
from pyoco_http.problems import Problem, problem_of, retry_after
from pyoco_http.proxies import below
from pyoco_server.model.errors import ErrorId
from pyoco_server.settings import Settings

_HEAD_BYTES = 16 * 1024
_READ_BYTES = 64 * 1024
# How long a client is heard, and what it still sends thrown away, after its answer and our end of the
# connection: to close at once would reset the connection and with it an answer under way (RFC 9112, 9.6).
_LINGER_SECONDS = 15.0

# hypercorn numbers the streams of a connection; HTTP/1.1 has one at a time.
_STREAM = 1
_CONTEXT: Final = WorkerContext(None)
_CONFIG: Final = Config()
_CONFIG.errorlog = logging.getLogger("pyoco_http.hypercorn")
# A piece of a body is handed over when the application asks for it: the next one waits, the rest is unread.
_CONFIG.max_app_queue_size = 0

_COMMON: Final = b"".join(b"%b: %b\r\n" % header for header in browsers.HEADERS)


class HttpConnection:
    """Serves one connection to its end.

    Args:
        app: The application.
        settings: Time limits.
        departures: Who looks after clients whose calls are answered in this task.
        stream: The socket.
    """

    def __init__(
        self,
        app: GatewayApp,
        settings: Settings,
        departures: Departures,
        stream: trio.SocketStream,
    ) -> None:
        self._short_routes = app.short_routes
        self._rules = app.rules
        self._app = wrap_app(app, _CONFIG.wsgi_max_body_size, "asgi")
        self._departures = departures
        self._root = settings.root_path.encode()
        self._head_seconds = settings.http_head_timeout_sec
        self._body_seconds = settings.http_body_timeout_sec
        self._send_seconds = settings.http_send_timeout_sec
        self._stream = stream
        self._http = _new_http()
        self._sending = trio.Lock()
        self._serving = trio.CancelScope()
        # A scope of its own: what came just before its time was over must not be cancelled behind it.
        self._idling = trio.CancelScope()
        self._stopping = False
        self._broken = False

    async def run(self) -> None:
        """Serve until either side closes, or a time limit is passed."""
        try:
            self._client = self._stream.socket.getpeername()[:2]
        except OSError:
            await trio.aclose_forcefully(self._stream)
            return  # the client was gone before it began
        try:
            with self._serving:
                while await self._serve_one():
                    pass
            late = self._idling.cancelled_caught and not self._stopping
            if late and self._http.trailing_data[0]:
                await self._send_error(408)
            if late or self._http.their_state in {h11.SEND_BODY, h11.ERROR}:
                await self._linger()
        finally:
            await trio.aclose_forcefully(self._stream)

    def stop(self) -> None:
        """Take no further request: close now when idle, else after the answer under way."""
        self._stopping = True
        self._idling.cancel()

    def leave(self) -> None:
        """End now, because the client has gone away."""
        self._broken = True
        self._serving.cancel()

    def abort(self) -> None:
        """Close now, whatever is under way."""
        self._stream.socket.close()

    async def _serve_one(self) -> bool:
        """Answer the next request; return whether another one may follow."""
        if self._stopping:
            return False
        request = None
        self._idling = trio.CancelScope(deadline=trio.current_time() + self._head_seconds)
        with self._idling:
            request = await self._next_event()
        if not isinstance(request, h11.Request):
            return False
        status = _refused(request)
        if status is not None:
            await self._send_error(status)
            return False
        target = below(self._root, request.target)
        path, _, query = target.partition(b"?")
        call = Call(
            request.method.decode("ascii").upper(),
            unquote(path.decode("ascii")),
            query,
            list(request.headers),
            self._client[0],
        )
        found = self._short_routes.find(call)
        with self._departures.watching(self._stream, self.leave):
            if found is not None:
                return await self._answer_short(call, *found)
            await self._pass_on(request, target)
        if self._http.our_state is h11.DONE and self._http.their_state is h11.DONE:
            self._http.start_next_cycle()
            return True
        return False

    async def _next_event(self) -> Any:
        """The next of h11's events. A client that is gone, or makes no sense, has closed the connection."""
        try:
            while (event := self._http.next_event()) is h11.NEED_DATA:
                if self._http.they_are_waiting_for_100_continue:
                    go_on = h11.InformationalResponse(status_code=100, headers=[_date()])
                    await self._send(self._http.send(go_on))
                self._http.receive_data(await self._stream.receive_some(_READ_BYTES))
        except h11.RemoteProtocolError as error:
            if self._http.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
                await self._send_error(error.error_status_hint)
            return h11.ConnectionClosed()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return h11.ConnectionClosed()
        return event

    async def _answer_short(self, call: Call, route: Any, names: dict[str, str]) -> bool:
        """Answer it here; return whether another request may follow."""
        body = Body(int(call.header(b"content-length") or 0))
        body.come_from(self._receive, self._body_seconds)
        status: int | None = None
        try:
            answer = await self._short_routes.answer(call, body, route, names)
            status = answer.status
            stays = await body.dropped() and not self._stopping
            stays = stays and self._http.their_state is h11.DONE
            own = b"".join(b"%b: %b\r\n" % header for header in self._rules.headers(call))
            await self._send(_written(answer, _COMMON + own, stays=stays))
        finally:
            self._rules.log(call, status, body.received)
        if stays:
            ahead, _ = self._http.trailing_data
            # A new one costs less than to tell the old one what was sent.
            self._http = _new_http()
            if ahead:
                self._http.receive_data(ahead)
                await trio.lowlevel.checkpoint()  # the others' turn, since nothing is waited for
        return stays

    async def _pass_on(self, request: h11.Request, target: bytes) -> None:
        """Have hypercorn run the application, with what still comes in, and send what it answers."""
        asked = Request(
            _STREAM,
            list(request.headers),
            request.http_version.decode(),
            request.method.decode("ascii").upper(),
            target,
            ConnectionState({}),
        )
        feeding = trio.CancelScope()
        send = self._sender(feeding)
        async with TaskGroup() as tasks:
            ours = _CONFIG, _CONTEXT, tasks
            stream = _Stream(self._app, *ours, False, self._client, None, send, _STREAM)
            with feeding:
                await stream.handle(asked)
                await self._feed(stream)

    async def _feed(self, stream: HTTPStream) -> None:
        """Give it the body, as fast as the application takes it, or the news that the client is gone."""
        if self._http.they_are_waiting_for_100_continue:
            # Taken when the application wants the body: the client is told to send no other.
            await stream.handle(BodyPiece(_STREAM, b""))
        while isinstance(event := await self._next_event(), h11.Data):
            await stream.handle(BodyPiece(_STREAM, bytes(event.data)))
        if isinstance(event, h11.EndOfMessage):
            await stream.handle(EndBody(_STREAM))
        else:
            self._serving.cancel()
            await stream.handle(StreamClosed(_STREAM))

    def _sender(self, feeding: trio.CancelScope) -> Callable[[Event], Awaitable[None]]:
        """How hypercorn sends an answer; ``feeding`` ends with it."""
        head = b""

        async def send(event: Event) -> None:
            nonlocal head
            if isinstance(event, StreamClosed):
                feeding.cancel()
            elif self._http.our_state is h11.ERROR:
                pass  # the client was told that it makes no sense
            elif isinstance(event, Response):
                headers = [*event.headers, _date()]
                head = self._http.send(h11.Response(status_code=event.status_code, headers=headers))
                # The first piece of a stream may be long in coming, so that its head goes out alone.
                if all(name != b"content-length" for name, _ in headers):
                    await self._send(head)
                    head = b""
            elif isinstance(event, BodyPiece):
                data, head = head + (self._http.send(h11.Data(data=event.data)) or b""), b""
                await self._send(data)
                await trio.lowlevel.checkpoint()
            elif isinstance(event, EndBody):
                await self._send(head + (self._http.send(h11.EndOfMessage()) or b""))

        return send

    async def _receive(self) -> dict[str, Any]:
        event = await self._next_event()
        if isinstance(event, h11.Data):
            return {"type": "http.request", "body": bytes(event.data), "more_body": True}
        if isinstance(event, h11.EndOfMessage):
            return {"type": "http.request", "body": b"", "more_body": False}
        self._serving.cancel()
        return {"type": "http.disconnect"}

    async def _send_error(self, status: int) -> None:
        """Answer what is no request that the application could see, and close."""
        self._http.send_failed()  # nothing else may be sent after this
        await self._send(_written(_refusal(status), stays=False))

    async def _send(self, data: bytes) -> None:
        """Send all of it. No checkpoint where the socket takes it at once, as it nearly always does."""
        if self._broken or not data:
            return
        if not self._sending.locked():
            with suppress(OSError):  # it has to wait, or what is wrong is met again below
                data = data[os.write(self._stream.socket.fileno(), data) :]
            if not data:
                return
        # Shielded, so that what is cancelled in between never leaves half a chunk behind.
        with trio.CancelScope(shield=True) as scope, suppress(OSError, trio.ClosedResourceError):
            async with self._sending:
                rest = memoryview(data)
                # One that takes a little is only slow, but not for ever.
                last = trio.current_time() + self._send_seconds + len(data) / BYTES_A_SECOND
                while rest and not self._broken:
                    scope.deadline = min(trio.current_time() + self._send_seconds, last)
                    rest = rest[await self._stream.socket.send(rest) :]
            return
        self.leave()

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


class _Stream(HTTPStream):
    """hypercorn's side of a request; one that the application failed on is answered with a problem."""

    async def _send_error_response(self, status_code: int) -> None:
        answer = _refusal(status_code)
        headers = [
            (b"content-type", answer.content_type.encode()),
            (b"content-length", b"%d" % len(answer.body)),
            (b"connection", b"close"),
        ]
        await self.send(Response(self.stream_id, headers, status_code))
        await self.send(BodyPiece(self.stream_id, answer.body))
        await self.send(EndBody(self.stream_id))
        self.state = ASGIHTTPState.CLOSED


async def refuse(stream: trio.SocketStream, status: int) -> None:
    """Tell a client that there is no room for its connection, and close it. Takes a second at most."""
    try:
        with trio.move_on_after(1.0):
            await stream.send_all(_written(_refusal(status), stays=False))
            await stream.send_eof()
            while await stream.receive_some(_READ_BYTES):
                pass
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        return
    finally:
        await trio.aclose_forcefully(stream)


def _new_http() -> h11.Connection:
    return h11.Connection(h11.SERVER, max_incomplete_event_size=_HEAD_BYTES)


def _refused(request: h11.Request) -> int | None:
    """The status that refuses the head of a request; None for one that is taken."""
    size = len(request.target)
    lengths = set()
    for name, value in request.headers:
        size += len(name) + len(value)
        if name in {b"transfer-encoding", b"content-length"}:
            lengths.add(name)
    if len(lengths) > 1:
        return 400  # which of the two counts is what request smuggling is about (RFC 9112, 6.1)
    if request.http_version not in {b"1.0", b"1.1"}:
        return 505
    if not _is_target(request.target):
        return 400
    # h11 looks at the size only of a head that has not come in whole.
    return 431 if size > _HEAD_BYTES else None


def _is_target(target: bytes) -> bool:
    """Whether the target of a request is one (RFC 9112, 3.2): a path, ``*``, or a URL that can be read."""
    if target.startswith(b"/") or target == b"*":
        return True
    try:
        # As the application reads it.
        url = urlsplit(unquote(target.partition(b"?")[0].decode("ascii")))
    except ValueError:
        return False
    return bool(url.scheme and url.netloc)


def _refusal(status: int) -> Answer:
    """The problem that answers what is no request that the application could see."""
    match status:
        case 503:
            detail, headers = "too many connections", retry_after(1)
            return Problem(status, detail, ErrorId.TOO_MANY_REQUESTS, headers=headers).answer()
        case 500:
            return problem_of(InternalServerError()).answer()
        case _:
            detail = HTTPStatus(status).phrase.lower()
            return Problem(status, detail, ErrorId.INVALID_INPUT).answer()


def _written(answer: Answer, common: bytes = b"", *, stays: bool) -> bytes:
    """An answer as it goes out; ``common`` are header lines."""
    lines = [
        b"HTTP/1.1 %d \r\ncontent-type: %b\r\ncontent-length: %d\r\n"
        % (answer.status, answer.content_type.encode(), len(answer.body)),
        *(b"%b: %b\r\n" % header for header in answer.headers),
        common,
        b"date: %b\r\n" % _date()[1],
        b"" if stays else b"connection: close\r\n",
        b"\r\n",
        answer.body,
    ]
    return b"".join(lines)


def _date() -> tuple[bytes, bytes]:
    return b"date", _date_of(int(time.time()))


@lru_cache(maxsize=1)
def _date_of(second: int) -> bytes:
    return formatdate(second, usegmt=True).encode()
