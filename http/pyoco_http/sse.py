"""Server-sent events: how one is written, how many streams a client may have open, and what ends them.

A route gives its events with `event_stream`, and everything else is seen to here: a stream counts against the
limits for as long as it is open, and ends when its key is revoked or expires, or the server stops.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Final, TypeVar, TypeVarTuple, Unpack

import msgspec
import trio
from quart import Response, request
from quart_trio import QuartTrio

from pyoco_http.call import current_call
from pyoco_http.problems import too_many
from pyoco_server.backend import Backend
from pyoco_server.gateway.key_ring import Standing
from pyoco_server.model.json_text import encode_json

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

HEARTBEAT_SECONDS: Final = 5.0
_RETRY_SECONDS: Final = 5
_HEADERS: Final = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


def event_stream(events: AsyncGenerator[bytes, None]) -> Response:
    """Answer with a stream of server-sent events, for as long as ``events`` goes on."""
    response = Response(events, content_type="text/event-stream", headers=_HEADERS)
    response.timeout = None
    return response


def pack(event: str, data: msgspec.Struct, event_id: str | None = None) -> bytes:
    """Write one event."""
    head = b"" if event_id is None else f"id: {event_id}\n".encode()
    return b"%bevent: %b\ndata: %b\n\n" % (head, event.encode(), encode_json(data))


async def within_heartbeat(
    wait: Callable[[], Awaitable[T]], deadline: float
) -> tuple[bool, T | None]:
    """Wait for the next thing to tell; (False, None) when a heartbeat or the end is due first."""
    with trio.move_on_at(min(deadline, trio.current_time() + HEARTBEAT_SECONDS)):
        return True, await wait()
    return False, None


class EventStreams:
    """Every open event stream of a server.

    Args:
        most: How many there may be.
        most_per_client: How many one client may have.
    """

    def __init__(self, most: int, most_per_client: int) -> None:
        self._most = most
        self._most_per_client = most_per_client
        self._open: Counter[str] = Counter()
        self.stopping = trio.Event()

    def stop(self) -> None:
        """End them all, and those to come."""
        self.stopping.set()

    def full(self, client: str) -> str | None:
        """Which limit another stream of this client would break; None for none."""
        if self._open[client] >= self._most_per_client:
            return f"{self._most_per_client} event streams and downloads of one client are open"
        if self._open.total() >= self._most:
            return f"{self._most} event streams and downloads are open"
        return None

    def opened(self, client: str) -> None:
        """Count a stream."""
        self._open[client] += 1

    def closed(self, client: str) -> None:
        """Count it off."""
        self._open[client] -= 1
        if not self._open[client]:
            del self._open[client]


class OpenStream:
    """One stream, from the moment that it is answered."""

    def __init__(self, streams: EventStreams, client: str, holder: Standing) -> None:
        self._streams = streams
        self._client = client
        self._holder = holder
        streams.opened(client)

    def close(self) -> None:
        """Count it off."""
        self._streams.closed(self._client)

    async def carry(self, send: Callable[[Unpack[Ts]], Awaitable[None]], *args: *Ts) -> bool:
        """Run ``send(*args)`` until it ends, or the stream has to; return whether it ended by itself."""
        async with trio.open_nursery() as nursery:
            for ended in (self._holder.ended, self._streams.stopping):
                nursery.start_soon(self._cut_after, ended, nursery)
            nursery.start_soon(self._cut_at_expiry, nursery)
            await send(*args)
            nursery.cancel_scope.cancel()
            return True
        return False

    @staticmethod
    async def _cut_after(ended: trio.Event, nursery: trio.Nursery) -> None:
        await ended.wait()
        nursery.cancel_scope.cancel()

    async def _cut_at_expiry(self, nursery: trio.Nursery) -> None:
        expires_at = self._holder.expires_at
        await trio.sleep(math.inf if expires_at is None else max(expires_at - time.time(), 0))
        nursery.cancel_scope.cancel()


def register_event_streams(app: QuartTrio, backend: Backend) -> EventStreams:
    """Count every event stream that the application answers with; return the counts."""
    settings = backend.settings
    streams = EventStreams(settings.http_max_streams, settings.http_max_streams_per_client)

    async def count(response: Response) -> Response:
        if response.mimetype != "text/event-stream" and response.timeout is not None:
            return response
        holder = current_call().standing
        assert holder is not None  # nobody else gets as far as a stream
        client = holder.principal.key_id or request.remote_addr or ""
        reason = streams.full(client)
        if reason is not None:
            async with response.response:
                pass  # ends what was begun of it, as the reading of an object
            return too_many(reason, _RETRY_SECONDS).response()
        if request.method == "HEAD":
            return response  # it is over at once
        request.event_stream = OpenStream(streams, client, holder)  # type: ignore[attr-defined]
        return response

    app.after_request(count)
    return streams
