"""Server-sent events: how one is written, and how a stream beats while nothing happens."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any, Final, TypeVar

import trio
from quart import Response

from pyoco_server.model.json_text import encode_json

T = TypeVar("T")

HEARTBEAT_SECONDS: Final = 5.0
_HEADERS: Final = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


def event_stream(events: AsyncGenerator[bytes, None]) -> Response:
    """Answer with a stream of server-sent events, for as long as ``events`` goes on."""
    response = Response(events, content_type="text/event-stream", headers=_HEADERS)
    response.timeout = None
    return response


def pack(event: str, data: dict[str, Any], event_id: str | None = None) -> bytes:
    """Write one event; ``ts``, the time of now in unix seconds, is added to its data."""
    head = b"" if event_id is None else f"id: {event_id}\n".encode()
    body = encode_json({**data, "ts": time.time()})
    return b"%bevent: %b\ndata: %b\n\n" % (head, event.encode(), body)


async def within_heartbeat(
    wait: Callable[[], Awaitable[T]], deadline: float
) -> tuple[bool, T | None]:
    """Wait for the next thing to tell; (False, None) when a heartbeat or the end is due first."""
    with trio.move_on_at(min(deadline, trio.current_time() + HEARTBEAT_SECONDS)):
        return True, await wait()
    return False, None
