"""One request of Quart's and its answer: the answer is made and goes out, a line is logged."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, cast

from hypercorn.typing import HTTPScope
from quart import Response
from quart_trio import QuartTrio
from quart_trio.asgi import TrioASGIHTTPConnection

from pyoco_http.bodies import GatewayRequest, Receive
from pyoco_http.call import Call, handle
from pyoco_http.rules import Rules

Send = Callable[[Any], Awaitable[None]]


class Exchange(TrioASGIHTTPConnection):
    """Handles one request of the application."""

    def __init__(self, app: QuartTrio, scope: HTTPScope) -> None:
        super().__init__(app, scope)
        self._rules: Rules = app.rules  # type: ignore[attr-defined]
        client = scope.get("client")  # which is optional in ASGI
        self._call = Call(
            scope["method"],
            scope["path"],
            scope["query_string"],
            list(scope["headers"]),
            None if client is None else client[0],
        )

    async def __call__(self, receive: Receive, send: Send) -> None:
        """Make the answer and send it; whoever serves the client cancels this when it goes away."""
        request = cast(GatewayRequest, self._create_request_from_scope(send))
        handle(self._call)
        request.body.come_from(receive, self.app.config["BODY_SECONDS"])
        status: int | None = None
        try:
            response = await self.app.handle_request(request)
            status = response.status_code
            if request.method == "HEAD" and isinstance(response, Response):
                # Nobody is sent its body, so it is not made: that of a stream may never end.
                response.response = response.data_body_class(b"")
            if not await request.body.dropped():
                # What is still to come belongs to no request that follows on this connection.
                response.headers["Connection"] = "close"
            if request.event_stream is None:
                await self._send_response(send, response)
            elif (
                not await request.event_stream.carry(self._send_response, send, response)
                and response.mimetype == "text/event-stream"
            ):
                # It was cut. Events tell of their end; whatever does not is not to look whole.
                await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            if request.event_stream is not None:
                request.event_stream.close()
            self._rules.log(self._call, status, request.body.received)
