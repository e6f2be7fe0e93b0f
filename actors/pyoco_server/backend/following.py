"""Following what the tasks of a run print."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager

from pyoco_server.gateway.event_reader import EventFeed, EventReader, MoreToCome, StoredEvent
from pyoco_server.model.event import LogChunk, StateChanged


@asynccontextmanager
async def printed(
    events: EventReader, run_id: str, *, follow: bool
) -> AsyncIterator[AsyncIterator[LogChunk]]:
    """What the tasks of a run print (`Backend.logs`)."""
    if follow:
        async with events.follow(run_id) as feed, aclosing(_to_the_end(feed)) as chunks:
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


async def _to_the_end(feed: EventFeed) -> AsyncGenerator[LogChunk, None]:
    while (item := await feed.next()) is not None:
        match item:
            case StoredEvent(event=LogChunk() as chunk):
                yield chunk
            case StoredEvent(event=StateChanged(status=status)) if status.terminal:
                return
            case _:
                continue
