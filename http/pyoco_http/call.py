"""One call of a client, as every route sees it, and its answer, whichever way it is given."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import trio
from quart import Response

from pyoco_server.api.base import Query
from pyoco_server.gateway.key_ring import Standing
from pyoco_server.gateway.read_side import Freshness
from pyoco_server.model.api_key import Principal
from pyoco_server.model.json_text import encode_json

Header = tuple[bytes, bytes]
Q = TypeVar("Q", bound=Query)


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
    wanted: Query = field(default_factory=Query)
    """What its query says."""

    def header(self, name: bytes) -> str | None:
        """The first value of a header; None where it is absent."""
        for key, value in self.headers:
            if key == name:
                return value.decode("latin-1")
        return None

    @property
    def principal(self) -> Principal:
        """Who makes it; only for one who was let in."""
        assert self.standing is not None
        return self.standing.principal


_current: Final[ContextVar[Call]] = ContextVar("call")


def handle(call: Call) -> None:
    """Make it the call that this task is handling."""
    _current.set(call)


def current_call() -> Call:
    """The call that is being handled."""
    return _current.get()


def asked(kind: type[Q]) -> Q:
    """Its query, of the kind that its route is described with."""
    wanted = current_call().wanted
    assert isinstance(wanted, kind)
    return wanted


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer.

    Attributes:
        body: Its body.
        status: Its status.
        content_type: The type of its body.
        headers: Its other headers, of its own; names in small letters.
    """

    body: bytes
    status: int = 200
    content_type: str = "application/json"
    headers: tuple[Header, ...] = ()

    def response(self) -> Response:
        """The same for Quart."""
        headers = {name.decode(): value.decode() for name, value in self.headers}
        return Response(
            self.body, status=self.status, headers=headers, content_type=self.content_type
        )


def json_body(body: Any, *headers: Header) -> Answer:
    """A 200 with a struct, or a list of them, as JSON; msgspec writes it several times faster than others."""
    return Answer(encode_json(body), headers=headers)
