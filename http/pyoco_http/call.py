"""One call of a client, as every route sees it, whichever way it is answered."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import parse_qsl

import trio
from quart import request

from pyoco_server.gateway.key_ring import Standing
from pyoco_server.gateway.read_side import Freshness
from pyoco_server.model.api_key import Principal
from pyoco_server.model.run import RunSnapshot
from pyoco_server.store.runs import RunNotFound

Header = tuple[bytes, bytes]


@dataclass(eq=False, slots=True)
class Call:
    """A request, and what is learned of it on the way."""

    method: str
    path: str
    query: bytes
    headers: list[Header]
    """Their names are in small letters."""
    remote_addr: str | None
    began: float = field(default_factory=trio.current_time)
    """When its head had come."""
    body: bytes = b""
    """Only of one that is answered by a short route."""
    request_id: str = ""
    traceparent: str | None = None
    """The trace context that the client sent, if it can be read."""
    standing: Standing | None = None
    """That of who makes it, once it is let in."""
    public: bool = True
    """Whether its answer is for everybody; so it is until it is let in elsewhere."""
    freshness: Freshness = field(default_factory=Freshness)
    """Of what it is answered."""

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
