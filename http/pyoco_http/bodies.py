"""Request bodies that wait for their reader: a client cannot fill this process's memory.

Quart's own body takes whatever comes, however slowly it is read. This one lets the connection wait while
half a mebibyte is unread; hypercorn then stops reading from the socket, and TCP holds the client.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import trio
from hypercorn.typing import ASGIReceiveCallable
from quart.wrappers import Request
from quart_trio import QuartTrio
from quart_trio.asgi import TrioASGIHTTPConnection
from quart_trio.wrappers.request import TrioBody, TrioRequest

_UNREAD_BYTES = 512 * 1024

# Calls whose handler counts the bytes of its body itself, while it writes them to disk.
_UPLOADS = frozenset({("POST", "/wheels")})


class WaitingBody(TrioBody):
    """A body that can be waited for until there is room in it."""

    def __init__(self, expected_content_length: int | None, max_content_length: int | None) -> None:
        super().__init__(expected_content_length, max_content_length)
        self._read = trio.Event()
        self._whole = False

    async def room(self) -> None:
        """Wait until so much of it was read that more may come."""
        while len(self._data) >= _UNREAD_BYTES and not self._whole and self._must_raise is None:
            self._read = trio.Event()
            await self._read.wait()

    async def __anext__(self) -> bytes:
        """The next bytes, all that have come."""
        data = await super().__anext__()
        self._read.set()
        return data

    def __await__(self) -> Generator[Any, None, Any]:
        """The whole body, which MAX_CONTENT_LENGTH limits."""
        self._whole = True
        self._read.set()
        return super().__await__()


class WaitingRequest(TrioRequest):
    """A request with such a body; an upload's is as long as its handler allows."""

    body_class = WaitingBody

    def __init__(self, method: str, scheme: str, path: str, *args: Any, **options: Any) -> None:
        if (method, path) in _UPLOADS:
            options["max_content_length"] = None
        super().__init__(method, scheme, path, *args, **options)


class WaitingConnection(TrioASGIHTTPConnection):
    """Takes more of a body only when there is room for it."""

    async def handle_messages(  # type: ignore[override]
        self, nursery: trio.Nursery, request: Request, receive: ASGIReceiveCallable
    ) -> None:
        """Hand the body on until the client is gone."""
        assert isinstance(request.body, WaitingBody)
        while True:
            message = await receive()
            if message["type"] == "http.request":
                request.body.append(message.get("body", b""))
                if not message.get("more_body", False):
                    request.body.set_complete()
                await request.body.room()
            elif message["type"] == "http.disconnect":
                nursery.cancel_scope.cancel()
                return


def register_bodies(app: QuartTrio) -> None:
    """Have all requests of the app read so."""
    app.request_class = WaitingRequest
    app.asgi_http_class = WaitingConnection
