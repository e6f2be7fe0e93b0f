"""Answers that are stored objects, streamed."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AbstractAsyncContextManager, aclosing
from urllib.parse import quote

from quart import Response

_ATTACHMENT = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}


async def download(
    reading: AbstractAsyncContextManager[AsyncIterator[bytes]],
    *,
    filename: str,
    length: int,
    status: int = 200,
) -> Response:
    """Answer with bytes that are read while they are sent; the first are read before the answer begins.

    An object that turns out to be damaged ends the connection before the announced length.

    Args:
        reading: Opens the bytes.
        filename: What to call them.
        length: How many they are.
        status: 200, or 206 for a part.

    Raises:
        BridgeError: They cannot be read.
    """
    pieces = _pieces(reading)
    first = await anext(pieces, b"")
    response = Response(_all(first, pieces), status=status, content_type="application/octet-stream")
    response.content_length = length
    response.headers.update(_ATTACHMENT)
    response.headers["Content-Disposition"] = _disposition(filename)
    response.timeout = None  # as long as it takes
    return response


def _disposition(filename: str) -> str:
    if filename.isascii() and filename.isprintable() and not set(filename) & {'"', "\\"}:
        return f'attachment; filename="{filename}"'
    return f"attachment; filename*=UTF-8''{quote(filename, safe='')}"


async def _pieces(
    reading: AbstractAsyncContextManager[AsyncIterator[bytes]],
) -> AsyncGenerator[bytes, None]:
    async with reading as pieces:
        async for piece in pieces:
            yield piece


async def _all(first: bytes, rest: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    async with aclosing(rest):
        yield first
        async for piece in rest:
            yield piece
