"""Answers that are stored objects, streamed, or a range of one (RFC 9110, section 14)."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Final, TypeAlias
from urllib.parse import quote

from quart import Response, request

from pyoco_http.problems import Problem
from pyoco_server.model.errors import ErrorId

Reading: TypeAlias = AbstractAsyncContextManager[AsyncIterator[bytes]]

_RANGE: Final = re.compile(r"bytes=(\d*)-(\d*)")
_ATTACHMENT: Final = {
    "Accept-Ranges": "bytes",
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
}


async def download(
    read: Callable[[int, int], Reading],
    *,
    filename: str,
    size: int,
    sha256: str,
    media_type: str = "application/octet-stream",
) -> Response:
    """Answer with a stored object, or with the part of it that the request's ``Range`` asks for.

    Its bytes are read while they are sent, the first ones before the answer begins. An object that turns
    out to be damaged ends the connection before the announced length.

    Args:
        read: Opens the bytes from one to before another.
        filename: What to call them.
        size: How many the object has.
        sha256: Its digest in hex.
        media_type: Of what kind it is.

    Raises:
        BridgeError: They cannot be read.
        Problem: It asks for bytes that there are not.
    """
    looking = request.method == "HEAD"
    part = None if looking else _part_of(request.headers.get("Range"), size)
    start, stop = part or (0, size)
    content: AsyncGenerator[bytes, None] | bytes = b""
    if not looking:
        content = _pieces(read(start, stop))
        await anext(content)
    status = 200 if part is None else 206
    response = Response(content, status=status, content_type=media_type)
    response.content_length = stop - start
    response.headers.update(_ATTACHMENT)
    response.headers["Content-Disposition"] = _disposition(filename)
    response.headers["ETag"] = f'"{sha256}"'
    if part is not None:
        response.headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
    response.timeout = None  # as long as it takes
    return response


def _disposition(filename: str) -> str:
    if filename.isascii() and filename.isprintable() and not set(filename) & {'"', "\\"}:
        return f'attachment; filename="{filename}"'
    return f"attachment; filename*=UTF-8''{quote(filename, safe='')}"


async def _pieces(reading: Reading) -> AsyncGenerator[bytes, None]:
    """The pieces, behind an empty one that says that the first is there."""
    async with reading as pieces:
        first = await anext(pieces, b"")
        yield b""
        yield first
        async for piece in pieces:
            yield piece


def _part_of(header: str | None, size: int) -> tuple[int, int] | None:
    """The first byte and the one behind the last that are asked for; None for all.

    What is no range of bytes, or more than one, is ignored, as the standard allows.

    Raises:
        Problem: There are no such bytes.
    """
    match = _RANGE.fullmatch((header or "").strip().replace(" ", ""))
    if match is None or match.group(0) == "bytes=-":
        return None
    first, last = match.groups()
    if not first:
        count = int(last[:19])
        if count == 0 or size == 0:
            raise _not_satisfiable(size)
        return max(size - count, 0), size
    start = int(first[:19])
    stop = min(int(last[:19]) + 1, size) if last else size
    if last and int(last[:19]) < start:
        return None
    if start >= size:
        raise _not_satisfiable(size)
    return start, stop


def _not_satisfiable(size: int) -> Problem:
    return Problem(
        416,
        "range not satisfiable",
        ErrorId.INVALID_INPUT,
        headers=((b"content-range", f"bytes */{size}".encode()),),
        reason=f"there are {size} bytes",
    )
