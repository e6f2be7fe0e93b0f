"""The events of a run as they come: server-sent events, or the printed text."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

import trio
from msgspec.structs import replace
from quart import Response

from pyoco_http.sse import HEARTBEAT_SECONDS, event_stream, pack
from pyoco_server.api.runs import ToldEnd, ToldOfRun
from pyoco_server.backend import Backend
from pyoco_server.gateway.event_reader import Cursor, StoredEvent
from pyoco_server.jetstream.errors import BridgeError
from pyoco_server.jetstream.follow import CaughtUp
from pyoco_server.model.event import Event, LogChunk, OutputTruncated, StateChanged, type_of
from pyoco_server.model.run import RunSnapshot
from pyoco_server.store.runs import RunNotFound

# How long an ended run's last event may be on its way when all that is stored was read, and how often it is
# waited so long where it may come still.
_GRACE_SECONDS = 1.0
_GRACES = 5


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


class EventStream:
    """Follows the events of one run for one client.

    It ends behind the event of the run's end, or as soon as a run has ended whose events do not tell so
    (an older worker's).

    Args:
        backend: Where events are.
        run: The run as the client was let see it.
        after: Where to begin.
        takes: Which events are wanted.
    """

    def __init__(
        self,
        backend: Backend,
        run: RunSnapshot,
        after: Cursor | None,
        takes: Callable[[Event], bool],
    ) -> None:
        self._backend = backend
        self._run = run
        self._after = after
        self._takes = takes

    def sse(self) -> Response:
        """The answer as server-sent events: each with its cursor as id, heartbeats, and ``end``."""
        return event_stream(self._sse())

    def text(self) -> Response:
        """The answer as the printed text."""
        response = Response(self._text(), content_type="text/plain; charset=utf-8")
        response.timeout = None  # it lasts as long as its run
        return response

    async def _sse(self) -> AsyncGenerator[bytes, None]:
        run_id = self._run.run_id
        async with aclosing(self._events()) as items:
            async for item in items:
                if item is None:
                    yield pack("heartbeat", ToldOfRun(run_id=run_id))
                elif isinstance(item, RunSnapshot):
                    yield pack("end", ToldEnd(run_id=run_id, status=item.status))
                else:
                    told = replace(item.shown(), run_id=run_id, ts=time.time())
                    yield pack(type_of(told), told, str(item.cursor))

    async def _text(self) -> AsyncGenerator[bytes, None]:
        async with aclosing(self._events()) as items:
            async for item in items:
                if isinstance(item, StoredEvent) and (text := text_of(item.event)):
                    yield text.encode()

    async def _events(self) -> AsyncGenerator[StoredEvent | RunSnapshot | None, None]:
        """Events, None for each heartbeat, and in the end the run; without it, the client comes back."""
        try:
            async with self._backend.events.follow(self._run.run_id, self._after) as feed:
                caught_up = False
                seen, graces = self._after, 0
                while True:
                    ended = self._run.status.terminal
                    silent = True
                    item = None
                    with trio.move_on_after(
                        _GRACE_SECONDS if ended and caught_up else HEARTBEAT_SECONDS
                    ):
                        item = await feed.next()
                        silent = False
                    if silent and ended and caught_up:
                        graces += 1
                        events = self._backend.events
                        if graces == _GRACES or not await events.end_to_come(
                            self._run.run_id, seen
                        ):
                            yield self._run
                            return
                        yield None
                    elif silent:
                        self._run = await self._backend.get(self._run.run_id)
                        yield None
                    elif item is None:
                        return
                    elif isinstance(item, CaughtUp):
                        caught_up = True
                    else:
                        seen = item.cursor
                        if self._takes(item.event):
                            yield item
                        if isinstance(item.event, StateChanged) and item.event.status.terminal:
                            yield replace(self._run, status=item.event.status)
                            return
        except (BridgeError, RunNotFound):
            return  # the client reconnects, and is told then what is wrong
