"""What browsers are told and what is not taken from them: foreign pages may neither write nor embed."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from functools import lru_cache
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


# A host and perhaps a port, and nothing that programs read differently (RFC 9110, 7.2).
_AUTHORITY: Final = re.compile(
    r"(\[(?P<address>[0-9a-f:.]+)\]|(?P<name>[\w.-]+))(:[0-9]*)?", re.ASCII
)

_PROBED = frozenset({"/health", "/health/ready"})


@dataclass(frozen=True, slots=True)
class OwnNames:
    """The names by which a gateway that asks for no keys may be called.

    A page of any site may have its own name point to this machine (DNS rebinding); then it is the gateway's
    own page to the browser, and reads what it likes. Its name is not one of ours.

    Attributes:
        any_name: Whether any is right: others reach the gateway anyway, and none was listed.
        listed: Those beside this machine's own, in small letters.
    """

    any_name: bool
    listed: frozenset[str] = frozenset()

    def hold(self, authority: str) -> bool:
        """Whether a ``host:port`` is one of them."""
        if self.any_name:
            return True
        parts = _AUTHORITY.fullmatch(authority.lower())
        if parts is None:
            return False
        host = (parts["address"] or parts["name"]).removesuffix(".")
        return is_loopback(host) or host in self.listed

    def check(self, call: Call) -> None:
        """Let no page of another site write, nor read by a name that was made to point here.

        With keys a foreign page fails without one, and cannot send the header without our consent.

        Raises:
            Problem: Such a page makes the call.
        """
        if call.method not in _READS and self._foreign(call):
            raise Problem(
                403,
                "cross-origin request refused",
                ErrorId.NOT_ALLOWED,
                reason="without API keys (PYOCO_HTTP_AUTH_MODE=none) only the gateway's own pages may write",
            )
        host = call.header(b"host")
        # Probes call by whatever name they know, and are told nothing of runs.
        if host is not None and not self.hold(host) and call.path not in _PROBED:
            raise Problem(
                421,
                "host not served here",
                ErrorId.NOT_ALLOWED,
                field="Host",
                reason=f"without API keys this gateway answers to localhost, not to {host[:200]!r}; "
                "PYOCO_HTTP_ALLOWED_HOSTS lists more names",
            )

    def _foreign(self, call: Call) -> bool:
        """Whether a page of another site makes the request; programs send none of these headers."""
        if call.header(b"sec-fetch-site") not in {None, "none", "same-origin"}:
            return True
        origin = call.header(b"origin")
        if origin is None:
            return False
        try:
            page = urlsplit(origin).netloc
        except ValueError:
            return True
        return page.lower() != (call.header(b"host") or "").lower() or not self.hold(page)


@lru_cache(maxsize=64)
def is_loopback(host: str) -> bool:
    """Whether a name or address can only be this machine's own."""
    # Names below "localhost" are resolved by nobody else (RFC 6761, 6.3).
    if host.lower() == "localhost" or host.lower().endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
