"""An answer that is no success."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import httpx

_LONGEST_TEXT = 500


class HttpProblem(httpx.HTTPStatusError):
    """The gateway answered with an error.

    It is an ``httpx.HTTPStatusError``, which pyoco-server 0.5.1 raised, so handlers of that
    go on working.

    Attributes:
        status: The HTTP status, e.g. 404.
        detail: What the gateway says about it.
        err_id: Its error id, e.g. ``ERR-PYOCO-0005``; ``None`` where it gave none.
        msg_id: Its message id, likewise.
        extra: What else the answer holds, e.g. ``reason`` or ``field``.
        retry_after_seconds: When the gateway wants to be asked again; ``None`` where it says nothing.
    """

    def __init__(
        self,
        detail: str,
        *,
        request: httpx.Request,
        response: httpx.Response,
        err_id: str | None = None,
        msg_id: str | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        self.status = response.status_code
        self.detail = detail
        self.err_id = err_id
        self.msg_id = msg_id
        self.extra = dict(extra or {})
        self.retry_after_seconds = _seconds(response.headers.get("Retry-After"))
        head = f"HTTP {self.status} {request.method} {request.url.path}"
        text = f"{head}: {detail}" if detail else head
        super().__init__(
            f"{text} ({err_id})" if err_id else text, request=request, response=response
        )

    @classmethod
    def of(cls, response: httpx.Response) -> HttpProblem:
        """Read the problem out of ``response``, whose body has been read."""
        try:
            body = json.loads(response.content)
        except (ValueError, RecursionError):
            body = None
        fields = body if isinstance(body, dict) else {}
        if "detail" in fields:
            detail = _sentence(fields["detail"])
        else:
            detail = response.text.strip()[:_LONGEST_TEXT] or response.reason_phrase
        known = {"type", "title", "status", "detail", "err_id", "msg_id"}
        return cls(
            detail,
            request=response.request,
            response=response,
            err_id=_text(fields.get("err_id")),
            msg_id=_text(fields.get("msg_id")),
            extra={name: value for name, value in fields.items() if name not in known},
        )


def _sentence(detail: object) -> str:
    match detail:
        case str():
            return detail
        case list():
            # How FastAPI, and with it 0.5.1, lists the fields that are wrong.
            return "; ".join(_field(item) for item in detail)
        case _:
            return json.dumps(detail)


def _field(item: object) -> str:
    match item:
        case {"loc": list(place), "msg": str(text)}:
            return f"{'.'.join(str(part) for part in place)}: {text}"
        case _:
            return json.dumps(item)


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _seconds(header: str | None) -> float | None:
    """Read ``Retry-After``; its other form, a date, counts as nothing said."""
    if header is None or not header.strip().isdecimal():
        return None
    return float(header)
