"""Following what happens in a run, and what its tasks print, to its end."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager, suppress
from typing import Final, TypeAlias

import trio

from pyoco_server.gateway.event_reader import Cursor, EventReader, MoreToCome, StoredEvent
from pyoco_server.jetstream.errors import BridgeError
from pyoco_server.jetstream.follow import CaughtUp
from pyoco_server.model.event import Event, LogChunk, StateChanged
from pyoco_server.model.run import RunSnapshot, RunStatus
from pyoco_server.store.runs import RunNotFound

# How long an ended run's last event may be on its way when all that is stored was read, and how often it is
# waited so long where it may come still.
_GRACE_SECONDS: Final = 1.0
_GRACES: Final = 5
_LOOK_SECONDS: Final = 5.0
_AGAIN_SECONDS: Final = 0.5

Get: TypeAlias = Callable[[str], Awaitable[RunSnapshot]]
"""Reads a run, as `Backend.get` does."""

Followed: TypeAlias = AsyncGenerator[StoredEvent | RunStatus | None, None]
"""Events, None for each time that nothing came, and in the end how the run ended; see `to_the_end`."""


async def to_the_end(
    events: EventReader,
    get: Get,
    run_id: str,
    after: Cursor | None,
    takes: Callable[[Event], bool],
    *,
    look_seconds: float = _LOOK_SECONDS,
) -> Followed:
    """Follow the events of a run.

    It ends behind the event of the run's end, or as soon as a run has ended whose events do not tell so (an
    older worker's, or they are gone). Where it does not say in the end how the run ended, NATS could not be
    asked, or who reads was started again: then it is to be followed anew.

    Args:
        events: Where events are read.
        get: Reads the run.
        run_id: The run.
        after: Where to begin.
        takes: Which events are wanted.
        look_seconds: After how long without an event it is looked whether the run has ended.

    Raises:
        RunNotFound: There is no run with this id, or not any more.
        Unavailable: The gateway is stopping, or too busy.
    """
    async with events.follow(run_id, after) as feed:
        with suppress(BridgeError):
            seen, graces = after, 0
            # Of the run, once all that is stored was read.
            status: RunStatus | None = None
            while True:
                ended = status is not None and status.terminal
                patience = min(look_seconds, _GRACE_SECONDS) if ended else look_seconds
                item = None
                with trio.move_on_after(patience) as wait:
                    item = await feed.next()
                if item is None and not wait.cancelled_caught:
                    return
                if isinstance(item, StoredEvent):
                    seen = item.cursor
                    if takes(item.event):
                        yield item
                    if isinstance(item.event, StateChanged) and item.event.status.terminal:
                        yield item.event.status
                        return
                    continue
                if item is None and ended:
                    graces += 1
                    if graces == _GRACES or not await events.end_to_come(run_id, seen):
                        yield status
                        return
                elif isinstance(item, CaughtUp) or status is not None:
                    status = (await get(run_id)).status
                if item is None:
                    yield None


@asynccontextmanager
async def printed(
    events: EventReader, get: Get, run_id: str, *, follow: bool
) -> AsyncIterator[AsyncIterator[LogChunk]]:
    """What the tasks of a run print (`Backend.logs`)."""
    if follow:
        async with aclosing(_coming(events, get, run_id)) as chunks:
            yield chunks
    else:
        async with (
            aclosing(events.stored(run_id, ended=True)) as stored,
            aclosing(_there(stored)) as chunks,
        ):
            yield chunks


async def _there(
    stored: AsyncIterator[StoredEvent | MoreToCome],
) -> AsyncGenerator[LogChunk, None]:
    async for item in stored:
        match item:
            case StoredEvent(event=LogChunk() as chunk):
                yield chunk
            case _:
                continue


async def _coming(events: EventReader, get: Get, run_id: str) -> AsyncGenerator[LogChunk, None]:
    seen: Cursor | None = None
    with suppress(RunNotFound):
        while True:
            async with aclosing(to_the_end(events, get, run_id, seen, _is_chunk)) as items:
                async for item in items:
                    match item:
                        case StoredEvent(event=LogChunk() as chunk):
                            seen = item.cursor
                            yield chunk
                        case RunStatus():
                            return
                        case _:
                            continue
            await trio.sleep(_AGAIN_SECONDS)


def _is_chunk(event: Event) -> bool:
    return isinstance(event, LogChunk)
