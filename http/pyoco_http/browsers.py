"""What browsers are told and what is not taken from them: foreign pages may neither write nor embed."""

from __future__ import annotations

import ipaddress
from typing import Final
from urllib.parse import urlsplit

from pyoco_http.call import Call, Header
from pyoco_http.problems import Problem
from pyoco_server.model.errors import ErrorId

_READS = frozenset({"GET", "HEAD", "OPTIONS"})

HEADERS: Final[tuple[Header, ...]] = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cache-control", b"no-store"),
)
"""What every answer tells a browser, unless it says something else about the same."""


def check_origin(call: Call, *, loopback: bool) -> None:
    """Let no page of another site write where no key is asked for.

    With keys a foreign page fails without one, and cannot send the header without our consent.

    Args:
        call: The call.
        loopback: Whether only this machine can reach the gateway.

    Raises:
        Problem: Such a page makes it.
    """
    if call.method not in _READS and _foreign(call, loopback=loopback):
        raise Problem(
            403,
            "cross-origin request refused",
            ErrorId.NOT_ALLOWED,
            reason="without API keys (PYOCO_HTTP_AUTH_MODE=none) only the gateway's own pages may write",
        )


def _foreign(call: Call, *, loopback: bool) -> bool:
    """Whether a page of another site makes the request; programs send none of these headers."""
    if call.header(b"sec-fetch-site") not in {None, "none", "same-origin"}:
        return True
    origin = call.header(b"origin")
    if origin is None:
        return False
    try:
        page = urlsplit(origin)
        own = page.netloc.lower() == (call.header(b"host") or "").lower()
        # A foreign name that was made to point here (DNS rebinding) is not ours.
        return not own or (loopback and not is_loopback(page.hostname or ""))
    except ValueError:
        return True


def is_loopback(host: str) -> bool:
    """Whether a name or address can only be this machine's own."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
