"""What ties the log lines of one request together: its id, and the W3C trace context that it came with."""

from __future__ import annotations

import re
from typing import Final

REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")
"""What is taken for the id of a request; anything else is replaced by one of ours."""

# https://www.w3.org/TR/trace-context/#traceparent-header. Later versions may append to the four fields.
_TRACEPARENT: Final = re.compile(
    r"(?!ff)(?P<version>[0-9a-f]{2})-(?P<trace_id>(?!0{32})[0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}"
    r"(?P<more>-[!-~]{0,200})?"
)


def trace_id(traceparent: str | None) -> str | None:
    """Return the id of the trace, 32 hex digits; None for no trace context, or one that cannot be read."""
    found = _TRACEPARENT.fullmatch(traceparent or "")
    if found is None or (found["version"] == "00" and found["more"] is not None):
        return None
    return found["trace_id"]


def log_fields(request_id: str | None, traceparent: str | None) -> dict[str, str]:
    """Return the fields that log lines about a request have, as far as they are known."""
    fields = {"request_id": request_id, "trace_id": trace_id(traceparent)}
    return {name: value for name, value in fields.items() if value}
