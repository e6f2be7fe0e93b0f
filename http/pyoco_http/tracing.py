"""The id of a request and its W3C trace context: taken from the client or made, and passed on.

The id is in the answer, in the access log and every log line that the request causes in the gateway, in the
job message of a submitted run, and from there in the worker's lines and the environment of the flow.
"""

from __future__ import annotations

import uuid

import structlog
from quart import Response, request
from quart_trio import QuartTrio

from pyoco_server.model.trace import REQUEST_ID, log_fields, trace_id

HEADER = "X-Request-ID"


def request_id() -> str:
    """The id of the request that is being handled."""
    found: str = request.request_id  # type: ignore[attr-defined]
    return found


def traceparent() -> str | None:
    """The trace context that the client sent; None for none, or one that cannot be read."""
    text = request.headers.get("traceparent", "").strip()
    return None if trace_id(text) is None else text


def register_tracing(app: QuartTrio) -> None:
    """Give every request its id, and every answer that of its request."""

    async def begin() -> None:
        sent = request.headers.get(HEADER, "").strip()
        chosen = sent if REQUEST_ID.fullmatch(sent) else uuid.uuid4().hex
        request.request_id = chosen  # type: ignore[attr-defined]
        structlog.contextvars.bind_contextvars(**log_fields(chosen, traceparent()))

    async def end(response: Response) -> Response:
        response.headers[HEADER] = request_id()
        return response

    app.before_request(begin)
    app.after_request(end)
