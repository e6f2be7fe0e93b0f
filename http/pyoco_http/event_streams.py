"""The events of a run as they come: server-sent events, or the printed text."""

from __future__ import annotations

import math
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import TypeAlias

import trio
from msgspec.structs import replace
from quart import Response

from pyoco_http.sse import event_stream, pack, within_heartbeat
from pyoco_server.api.runs import ToldEnd, ToldOfRun
from pyoco_server.backend import Backend
from pyoco_server.gateway.event_reader import Cursor, StoredEvent
from pyoco_server.jetstream.errors import BridgeError, Unanswered
from pyoco_server.jetstream.follow import CaughtUp
from pyoco_server.model.event import Event, LogChunk, OutputTruncated, StateChanged, type_of
from pyoco_server.model.run import RunSnapshot
from pyoco_server.store.runs import RunNotFound

# How long an ended run's last event may be on its way when all that is stored was read, and how often it is
# waited so long where it may come still.
_GRACE_SECONDS = 1.0
_GRACES = 5

Followed: TypeAlias = AsyncGenerator[StoredEvent | RunSnapshot | None, None]
"""Events, None for each heartbeat, and in the end the run; without it, the client comes back."""


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


async def followed(
    backend: Backend, run: RunSnapshot, after: Cursor | None, takes: Callable[[Event], bool]
) -> Followed:
    """Follow the events of one run for one client.

    It ends behind the event of the run's end, or as soon as a run has ended whose events do not tell so
    (an older worker's).

    Args:
        backend: Where events are.
        run: The run as the client was let see it.
        after: Where to begin.
        takes: Which events are wanted.
    """
    try:
        async with backend.events.follow(run.run_id, after) as feed:
            caught_up, seen, graces = False, after, 0
            while True:
                ended = caught_up and run.status.terminal
                patience = _GRACE_SECONDS if ended else math.inf
                came, item = await within_heartbeat(feed.next, trio.current_time() + patience)
                if came and item is None:
                    return
                if isinstance(item, CaughtUp):
                    caught_up = True
                elif item is not None:
                    seen = item.cursor
                    if takes(item.event):
                        yield item
                    if isinstance(item.event, StateChanged) and item.event.status.terminal:
                        yield replace(run, status=item.event.status)
                        return
                elif not ended:
                    run = await backend.get(run.run_id)
                    yield None
                else:
                    graces += 1
                    events = backend.events
                    if graces == _GRACES or not await events.end_to_come(run.run_id, seen):
                        yield run
                        return
                    yield None
    except (BridgeError, RunNotFound):
        return  # the client reconnects, and is told then what is wrong


def sse_of(run_id: str, items: Followed) -> Response:
    """Answer with server-sent events: each with its cursor as id, heartbeats, and ``end``."""
    return event_stream(_sse(run_id, items))


async def _sse(run_id: str, items: Followed) -> AsyncGenerator[bytes, None]:
    async with aclosing(items):
        async for item in items:
            if item is None:
                yield pack("heartbeat", ToldOfRun(run_id=run_id))
            elif isinstance(item, RunSnapshot):
                yield pack("end", ToldEnd(run_id=run_id, status=item.status))
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
    async with aclosing(items):
        async for item in items:
            ended = isinstance(item, RunSnapshot)
            if isinstance(item, StoredEvent) and (text := text_of(item.event)):
                yield text.encode()
    if not ended:
        # A text says so by nothing else than a connection that breaks.
        raise Unanswered("the events of a run broke off before its end")
