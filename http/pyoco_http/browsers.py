"""What browsers are told and what is not taken from them: foreign pages may neither write nor embed."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from quart import Response, request
from quart_trio import QuartTrio

from pyoco_http.problems import Problem
from pyoco_server.backend import Backend
from pyoco_server.model.errors import ErrorId

_READS = frozenset({"GET", "HEAD", "OPTIONS"})
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
}


def register_browser_rules(app: QuartTrio, backend: Backend) -> None:
    """Refuse writes of foreign pages where no key is asked for, and add the security headers."""
    keyed = backend.settings.http_auth_mode == "api_key"

    async def check() -> None:
        # With keys a foreign page fails without one, and cannot send the header without our consent.
        if not keyed and request.method not in _READS and _foreign(app.config["LOOPBACK"]):
            raise Problem(
                403,
                "cross-origin request refused",
                ErrorId.NOT_ALLOWED,
                reason="without API keys (PYOCO_HTTP_AUTH_MODE=none) only the gateway's own pages may write",
            )

    async def add_headers(response: Response) -> Response:
        for name, value in _HEADERS.items():
            response.headers.setdefault(name, value)
        return response

    app.before_request(check)
    app.after_request(add_headers)


def _foreign(loopback: bool) -> bool:
    """Whether a page of another site makes the request; programs send none of these headers."""
    if request.headers.get("Sec-Fetch-Site", "none") not in {"none", "same-origin"}:
        return True
    origin = request.headers.get("Origin")
    if origin is None:
        return False
    try:
        page = urlsplit(origin)
        own = page.netloc.lower() == request.headers.get("Host", "").lower()
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
