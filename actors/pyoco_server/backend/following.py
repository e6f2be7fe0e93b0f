"""Following what the tasks of a run print."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager

import trio

from pyoco_server.gateway.event_reader import Cursor, EventReader, MoreToCome, StoredEvent
from pyoco_server.model.event import LogChunk, StateChanged

_AGAIN_SECONDS = 0.5


@asynccontextmanager
async def printed(
    events: EventReader, run_id: str, *, follow: bool
) -> AsyncIterator[AsyncIterator[LogChunk]]:
    """What the tasks of a run print (`Backend.logs`)."""
    if follow:
        async with aclosing(_to_the_end(events, run_id)) as chunks:
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


async def _to_the_end(events: EventReader, run_id: str) -> AsyncGenerator[LogChunk, None]:
    seen: Cursor | None = None
    while True:
        async with events.follow(run_id, seen) as feed:
            while (item := await feed.next()) is not None:
                if not isinstance(item, StoredEvent):
                    continue
                seen = item.cursor
                match item.event:
                    case LogChunk() as chunk:
                        yield chunk
                    case StateChanged(status=status) if status.terminal:
                        return
                    case _:
                        continue
        # NATS could not be asked, or who reads was started again.
        await trio.sleep(_AGAIN_SECONDS)
