"""One call of a client, as every route sees it, whichever way it is answered."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import parse_qsl

import trio
from quart import request

from pyoco_server.gateway.key_ring import Standing
from pyoco_server.model.api_key import Principal
from pyoco_server.model.run import RunSnapshot
from pyoco_server.store.runs import RunNotFound

Header = tuple[bytes, bytes]


class Call:
    """A request, and what is learned of it on the way.

    Attributes:
        method: Its method, in capitals.
        path: Its path, without the query.
        query: Its query, as it came.
        headers: Its headers; their names are in small letters.
        remote_addr: The client's address.
        began: When its head had come, by trio's clock.
        body: Its body, for a route that is answered the short way.
        body_bytes: How much of its body came in.
        request_id: Its id, from the client or made.
        traceparent: The trace context that the client sent; None for none that can be read.
        standing: That of who makes it, once he is let in.
    """

    __slots__ = (
        "began",
        "body",
        "body_bytes",
        "headers",
        "method",
        "path",
        "query",
        "remote_addr",
        "request_id",
        "standing",
        "traceparent",
    )

    def __init__(
        self,
        method: str,
        path: str,
        query: bytes,
        headers: Iterable[Header],
        remote_addr: str | None,
    ) -> None:
        self.method = method
        self.path = path
        self.query = query
        self.headers = headers
        self.remote_addr = remote_addr
        self.began = trio.current_time()
        self.body = b""
        self.body_bytes = 0
        self.request_id = ""
        self.traceparent: str | None = None
        self.standing: Standing | None = None

    def header(self, name: bytes) -> str | None:
        """The first value of a header; None where it is absent."""
        for key, value in self.headers:
            if key == name:
                return value.decode("latin-1")
        return None

    def args(self, name: str) -> list[str]:
        """The values of a name in the query."""
        if not self.query:
            return []
        pairs = parse_qsl(self.query.decode("latin-1"), keep_blank_values=True)
        return [value for key, value in pairs if key == name]

    @property
    def principal(self) -> Principal:
        """Who makes it; only for one who was let in."""
        assert self.standing is not None
        return self.standing.principal

    def see(self, snapshot: RunSnapshot) -> RunSnapshot:
        """The run, if the caller may know of it.

        Raises:
            RunNotFound: It belongs to another tenant.
        """
        if not self.principal.sees(snapshot.tenant_id):
            raise RunNotFound(snapshot.run_id)
        return snapshot


def current_call() -> Call:
    """The call that a route of Quart's is handling."""
    found: Call = request.call  # type: ignore[attr-defined]
    return found
