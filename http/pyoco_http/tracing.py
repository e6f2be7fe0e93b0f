"""The id of a request and its W3C trace context: taken from the client or made, and passed on.

The id is in the answer, in the access log and every log line that the request causes in the gateway, in the
job message of a submitted run, and from there in the worker's lines and the environment of the flow.
"""

from __future__ import annotations

import secrets

import structlog

from pyoco_http.call import Call
from pyoco_server.model.trace import REQUEST_ID, log_fields, trace_id

HEADER = b"x-request-id"


def trace(call: Call) -> None:
    """Give the call its id and its trace context, and the log lines from here on."""
    sent = (call.header(HEADER) or "").strip()
    call.request_id = sent if REQUEST_ID.fullmatch(sent) else secrets.token_hex(16)
    context = (call.header(b"traceparent") or "").strip()
    if context and trace_id(context) is not None:
        call.traceparent = context
    # A connection has one context for all of its calls.
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(**log_fields(call.request_id, call.traceparent))
