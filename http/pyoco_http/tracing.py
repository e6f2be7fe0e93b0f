"""The id of a request and its W3C trace context: taken from the client or made, and passed on.

The id is in the answer, in the access log and every log line of the handler, in the job message of a
submitted run, and from there in the worker's and the task's lines.
"""

from __future__ import annotations

import re
import uuid

import structlog
from quart import Response, request
from quart_trio import QuartTrio

HEADER = "X-Request-ID"

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")
# https://www.w3.org/TR/trace-context/#traceparent-header, of version 00.
_TRACEPARENT = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


def request_id() -> str:
    """The id of the request that is being handled."""
    found: str = request.request_id  # type: ignore[attr-defined]
    return found


def traceparent() -> str | None:
    """The trace context that the client sent; None for none, or one that cannot be read."""
    text = request.headers.get("traceparent", "").strip()
    return text if _TRACEPARENT.fullmatch(text) else None


def register_tracing(app: QuartTrio) -> None:
    """Give every request its id, and every answer that of its request."""

    async def begin() -> None:
        sent = request.headers.get(HEADER, "").strip()
        chosen = sent if _REQUEST_ID.fullmatch(sent) else uuid.uuid4().hex
        request.request_id = chosen  # type: ignore[attr-defined]
        structlog.contextvars.bind_contextvars(request_id=chosen)

    async def end(response: Response) -> Response:
        response.headers[HEADER] = request_id()
        return response

    app.before_request(begin)
    app.after_request(end)
