"""The events of a run as they come: server-sent events, or the printed text."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager, suppress

from msgspec.structs import replace
from quart import Response

from pyoco_http import sse
from pyoco_http.sse import event_stream, pack
from pyoco_server.api.runs import ToldEnd, ToldOfRun
from pyoco_server.backend import Backend
from pyoco_server.backend.following import Followed, to_the_end
from pyoco_server.gateway.event_reader import Cursor, StoredEvent
from pyoco_server.jetstream.errors import Unanswered, Unavailable
from pyoco_server.model.event import Event, LogChunk, OutputTruncated, type_of
from pyoco_server.model.run import RunStatus
from pyoco_server.store.runs import RunNotFound


def text_of(event: Event) -> str:
    """What a reader of plain text sees of a log event."""
    match event:
        case LogChunk(text=text):
            return text
        case OutputTruncated(left_out_bytes=None, limit_bytes=limit):
            return f"\n… output is left out from here on: at most {limit} bytes are kept …\n"
        case OutputTruncated(left_out_bytes=size):
            return f"\n… {size} bytes of output were left out …\n"
        case _:
            return ""


def followed(
    backend: Backend, run_id: str, after: Cursor | None, takes: Callable[[Event], bool]
) -> Followed:
    """Follow the events of one run for one client, which is told each time that nothing came."""
    events, get = backend.events, backend.get
    return to_the_end(events, get, run_id, after, takes, look_seconds=sse.HEARTBEAT_SECONDS)


def sse_of(run_id: str, items: Followed) -> Response:
    """Answer with server-sent events: each with its cursor as id, heartbeats, and ``end``."""
    return event_stream(_sse(run_id, items))


async def _sse(run_id: str, items: Followed) -> AsyncGenerator[bytes, None]:
    async with _closing(items):
        async for item in items:
            if item is None:
                yield pack("heartbeat", ToldOfRun(run_id=run_id))
            elif isinstance(item, RunStatus):
                yield pack("end", ToldEnd(run_id=run_id, status=item))
            else:
                told = replace(item.shown(), run_id=run_id, ts=time.time())
                yield pack(type_of(told), told, str(item.cursor))


def plain_of(items: Followed) -> Response:
    """Answer with the printed text."""
    response = Response(_plain(items), content_type="text/plain; charset=utf-8")
    response.timeout = None  # it lasts as long as its run
    return response


async def _plain(items: Followed) -> AsyncGenerator[bytes, None]:
    ended = False
    async with _closing(items):
        async for item in items:
            ended = isinstance(item, RunStatus)
            if isinstance(item, StoredEvent) and (text := text_of(item.event)):
                yield text.encode()
    if not ended:
        # A text says so by nothing else than a connection that breaks.
        raise Unanswered("the events of a run broke off before its end")


@asynccontextmanager
async def _closing(items: Followed) -> AsyncIterator[None]:
    # The client reconnects, and is told then what is wrong.
    with suppress(Unavailable, RunNotFound):
        async with aclosing(items):
            yield
