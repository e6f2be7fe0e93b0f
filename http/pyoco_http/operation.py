"""What a route takes and gives, said beside it.

It stands directly below who may call it::

    @blueprint.get("/dlq")
    @access(Access.READ)
    @described("List dead letters, the newest first", DeadLetterPage, query=DeadLettersQuery)
    async def letters() -> DeadLetterPage:
        wanted = asked(DeadLettersQuery)
        ...

Structs are what is sent: a route returns one, and the query that it names is read before it is called.
`openapi.json` is made of these. A route that says nothing fails the test that walks the routes.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, ParamSpec, TypeAlias, cast

from quart import Response

from pyoco_http.bodies import BodyLimit
from pyoco_server.api.base import FormBody, JsonBody, Query

P = ParamSpec("P")

_ATTRIBUTE = "__pyoco_operation__"

Content: TypeAlias = Mapping[str, Any]
"""By media type: a type that msgspec makes a schema of, a tuple of such for either, or a schema."""

TEXT: Final[Mapping[str, Any]] = {"type": "string"}
BYTES: Final[Content] = {"application/octet-stream": {"type": "string", "format": "binary"}}
HTML: Final[Content] = {"text/html": TEXT}


@dataclass(frozen=True, slots=True)
class HeaderParam:
    """A header that a route reads."""

    name: str
    schema: Mapping[str, Any]
    doc: str


RANGE: Final = HeaderParam(
    "Range", {"type": "string", "format": "byte-range"}, "One range of bytes; another is ignored."
)
IDEMPOTENCY_KEY: Final = HeaderParam(
    "Idempotency-Key",
    {"type": "string", "format": "idempotency-key"},
    "All submissions with one key are one run, for a day.",
)
LAST_EVENT_ID: Final = HeaderParam(
    "Last-Event-ID", {"type": "string", "format": "event-cursor"}, "Go on behind this event."
)


@dataclass(frozen=True, slots=True)
class Operation:
    """What a route takes and gives.

    Attributes:
        summary: What it is for, in a few words.
        answer: The 200.
        query: Its query.
        body: What it reads; empty for a route that reads no body.
        limit: How large that may be; None where that is as everywhere.
        headers: Further headers that it reads.
        refusals: The details of further answers, by status.
        bodies: What those give that are no problems.
        files: Names for the files of a form, as examples, by field.
        body_required: Whether a call without a body is refused.
        doc: More about it.
    """

    summary: str
    answer: Content
    query: type[Query] = Query
    body: Content = field(default_factory=dict)
    limit: BodyLimit | None = None
    headers: Sequence[HeaderParam] = ()
    refusals: Mapping[int, str] = field(default_factory=dict)
    bodies: Mapping[int, Content] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    body_required: bool = True
    doc: str = ""


def described(
    summary: str,
    answer: Any,
    *,
    body: type[JsonBody] | type[FormBody] | Content | None = None,
    events: Mapping[str, Any] | None = None,
    **more: Any,
) -> Callable[[Callable[P, Awaitable[Any]]], Callable[P, Awaitable[Response]]]:
    """Say what the route below takes and gives; see the module's own text.

    Args:
        summary: What it is for, in a few words.
        answer: The type of its JSON, a tuple of types for either, or `Content`.
        body: The type of its JSON or form, or `Content`.
        events: Of a stream of server-sent events: the data of each, by the event's name.
        more: As in `Operation`.
    """
    content = dict(answer) if isinstance(answer, Mapping) else {"application/json": answer}
    if events is not None:
        content["text/event-stream"] = events
    taken: Content = {}
    if isinstance(body, Mapping):
        taken = body
    elif body is not None:
        form = issubclass(body, FormBody)
        taken = {"multipart/form-data" if form else "application/json": body}
    operation = Operation(summary, content, body=taken, **more)

    def declare(view: Callable[P, Awaitable[Any]]) -> Callable[P, Awaitable[Response]]:
        setattr(view, _ATTRIBUTE, operation)
        # The application makes a response of what it returns.
        return cast(Callable[P, Awaitable[Response]], view)

    return declare


def operation_of(view: Callable[..., Any]) -> Operation | None:
    """What a route says of itself."""
    found = getattr(view, _ATTRIBUTE, None)
    return found if isinstance(found, Operation) else None
