"""One request and its answer: the body comes in as it is wanted, the answer goes out, a line is logged."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, cast

import trio
from hypercorn.typing import HTTPScope
from quart_trio import QuartTrio
from quart_trio.asgi import TrioASGIHTTPConnection

from pyoco_http.bodies import Body, GatewayRequest
from pyoco_http.call import Call
from pyoco_http.problems import Problem
from pyoco_http.rules import Rules
from pyoco_server.model.errors import ErrorId

Send = Callable[[Any], Awaitable[None]]
Receive = Callable[[], Awaitable[Any]]

# A body may be late by the time that it takes at this rate; slower is a trickle that holds a place.
_BYTES_A_SECOND = 10_000


class Exchange(TrioASGIHTTPConnection):
    """Handles one request of the application."""

    def __init__(self, app: QuartTrio, scope: HTTPScope) -> None:
        super().__init__(app, scope)
        client = scope.get("client")  # which is optional in ASGI
        self._call = Call(
            scope["method"],
            scope["path"],
            scope["query_string"],
            list(scope["headers"]),
            None if client is None else client[0],
        )

    async def __call__(self, receive: Receive, send: Send) -> None:
        """Run until the answer is sent or the client is gone."""
        request = cast(GatewayRequest, self._create_request_from_scope(send))
        request.call = self._call
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.handle_messages, nursery, request, receive)
                nursery.start_soon(self.handle_request, nursery, request, send)
        finally:
            if request.event_stream is not None:
                request.event_stream.close()

    async def handle_messages(  # type: ignore[override]
        self, nursery: trio.Nursery, request: GatewayRequest, receive: Receive
    ) -> None:
        """Take in the body, then wait for the client to go away; that ends the exchange."""
        body = request.body
        while True:
            await body.has_room()
            message = await self._next(body, receive)
            if message is None:
                body.fail(_too_slow())
            elif message["type"] == "http.request":
                body.append(message.get("body", b""))
                if not message.get("more_body", False):
                    body.set_complete()
            elif message["type"] == "http.disconnect":
                break
        nursery.cancel_scope.cancel()

    async def _next(self, body: Body, receive: Receive) -> Any:
        """What comes in next; None when a body is too slow."""
        if not body.awaited:
            return await receive()
        seconds: float = self.app.config["BODY_SECONDS"]
        deadline = self._call.began + seconds + body.received / _BYTES_A_SECOND
        with trio.CancelScope(deadline=deadline):
            return await receive()
        return None

    async def handle_request(  # type: ignore[override]
        self, nursery: trio.Nursery, request: GatewayRequest, send: Send
    ) -> None:
        """Make the answer and send it."""
        status: int | None = None
        sent = _Sent(send)
        try:
            response = await self.app.handle_request(request)
            status = response.status_code
            if not await request.body.dropped():
                # What is still to come belongs to no request that follows on this connection.
                response.headers["Connection"] = "close"
            if request.event_stream is None:
                await self._send_response(sent, response)
            else:
                await request.event_stream.carry(self._send_response, sent, response)
                await sent.end()
        finally:
            self._call.body_bytes = request.body.received
            Rules.log(self._call, status)
        nursery.cancel_scope.cancel()


class _Sent:
    """Sends the parts of an answer, and knows whether it has had its end."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._ended = False

    async def __call__(self, message: Any) -> None:
        self._ended = message["type"] == "http.response.body" and not message.get("more_body")
        await self._send(message)

    async def end(self) -> None:
        """End an answer that was cut, so that the client takes what it got for whole."""
        if not self._ended:
            await self({"type": "http.response.body", "body": b"", "more_body": False})


def _too_slow() -> Problem:
    return Problem(
        408,
        "request timeout",
        ErrorId.INVALID_INPUT,
        reason=f"the body came slower than {_BYTES_A_SECOND} bytes a second",
    )
