"""What both clients do around a call: the parts of it that httpx is given, and time limits."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from typing import Any, TypeVar

import httpx

from pyoco_server.client.requests import CANCEL_WAIT_SECONDS, ApiCall, UnsendableValue, given

DEFAULT_TIMEOUT_SECONDS = 30.0
CONNECT_SECONDS = 5.0
POLL_SECONDS = 0.25
_UPLOAD_SECONDS = 300.0
_SEEN = "X-Pyoco-Seen"
_PROXIES = frozenset({"http_proxy", "https_proxy", "all_proxy", "no_proxy"})
# Each stream has a connection, and how many are followed is for the caller to say.
_LIMITS = httpx.Limits(max_connections=None, max_keepalive_connections=20)

C = TypeVar("C", httpx.Client, httpx.AsyncClient)


def made(
    kind: Callable[..., C], base_url: str, headers: Mapping[str, str] | None = None, **more: Any
) -> C:
    """Make a client of httpx.

    Raises:
        httpx.InvalidURL: The URL is none.
        UnicodeEncodeError: A header cannot be sent.
        httpx.ProxyError: The environment names proxies that cannot be used; the text has its variables.
    """
    url, sent = httpx.URL(base_url), httpx.Headers(headers)
    try:
        return kind(base_url=url, headers=sent, limits=_LIMITS, **more)
    except (ImportError, ValueError, httpx.InvalidURL) as error:  # such as of SOCKS
        names = sorted(name for name in os.environ if name.lower() in _PROXIES)
        raise httpx.ProxyError(f"{', '.join(names)}: {error}") from None


def request_arguments(call: ApiCall[Any], timeout_seconds: float) -> dict[str, Any]:
    """Return what ``build_request`` of an httpx client is called with.

    Raises:
        UnsendableValue: The body cannot be JSON.
    """
    # After the last byte of an upload the gateway still checks and stores it.
    patience = max(timeout_seconds, _UPLOAD_SECONDS) if call.upload else timeout_seconds
    part = call.upload
    files = None if part is None else {part.field: (part.filename, part.data, part.content_type)}
    headers, content = dict(call.headers), call.content
    if call.json is not None:
        headers["Content-Type"], content = "application/json", _body_of(call.json)
    return {
        "method": call.method,
        "url": call.path,
        "params": dict(call.params),
        "headers": headers,
        "timeout": httpx.Timeout(patience, connect=min(CONNECT_SECONDS, timeout_seconds)),
        **given(content=content, data=call.form, files=files),
    }


def json_of(name: str, value: object) -> bytes:
    """Return a field of a request as JSON.

    Raises:
        UnsendableValue: It cannot be that.
    """
    try:
        return _dumped(value)
    except ValueError as error:
        raise UnsendableValue(f"{name} holds what JSON cannot carry: {error}") from None


def _body_of(fields: Mapping[str, object]) -> bytes:
    try:
        return _dumped(fields)
    except ValueError:
        for name, value in fields.items():
            json_of(name, value)
        raise


def _dumped(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def cancel_wait_seconds(timeout_sec: int | None) -> int:
    """Return how long ``cancel_run`` waits: at least a second, as in 0.5.1."""
    return max(1, CANCEL_WAIT_SECONDS if timeout_sec is None else int(timeout_sec))


def remember(sent: httpx.Headers, response: httpx.Response) -> None:
    """Send along from now on how far the gateway was, so that no other gateway answers with less."""
    told = response.headers.get(_SEEN)
    if told is None or not told.isascii():  # which is no gateway's
        return
    bucket, _, seq = told.partition("-")
    known_bucket, _, known = sent.get(_SEEN, "").partition("-")
    if not (bucket == known_bucket and known.isdigit() and seq.isdigit() and int(seq) < int(known)):
        sent[_SEEN] = told


async def exhaust(chunks: AsyncIterator[bytes]) -> None:
    """End the generators of a closed response.

    httpx nests several of them and closes none, and trio warns of each that is left to the garbage
    collector. Reading on a closed connection fails at once, which ends all of them in order.
    """
    with suppress(httpx.HTTPError, httpx.StreamError):
        async for _ in chunks:
            pass
