"""What the routes of events and logs share: where to read from, and a page of what is stored."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import aclosing

from quart import request

from pyoco_http.query import refused
from pyoco_server.api.events import EventPage, PlaceQuery
from pyoco_server.backend import Backend
from pyoco_server.gateway.event_reader import (
    BEGINNING,
    Cursor,
    InvalidCursor,
    MoreToCome,
    StoredEvent,
)
from pyoco_server.model.event import Event, LogChunk
from pyoco_server.model.run import RunSnapshot

# A page ends behind the event that passes this.
_PAGE_BYTES = 1024 * 1024


def follows(query: PlaceQuery) -> bool:
    """Whether the client wants what comes: by ``follow``, or else by what it accepts."""
    if query.follow is not None:
        return query.follow
    return "text/event-stream" in request.accept_mimetypes.values()


def cursor(query: PlaceQuery) -> Cursor | None:
    """Where the client wants to go on: ``cursor`` of the query, or the ``Last-Event-ID`` of a reconnect.

    Raises:
        Problem: It is none.
    """
    name, text = "cursor", query.cursor
    if "cursor" not in request.args:
        name, text = "Last-Event-ID", request.headers.get("Last-Event-ID", "")
    if not text:
        return None
    try:
        return Cursor.parse(text)
    except InvalidCursor as error:
        raise refused(type(query), name, str(error)) from None


async def page(
    backend: Backend,
    run: RunSnapshot,
    after: Cursor | None,
    takes: Callable[[Event], bool],
    most: int,
) -> EventPage:
    """Return stored events, where to go on for more at once, and where for what comes later.

    Of a run that has ended, the last events are waited for, a second at most.

    Raises:
        BridgeError: NATS could not be asked.
    """
    items: list[Event] = []
    size = 0
    more = False
    position = after
    ended = run.status.terminal
    async with aclosing(backend.events.stored(run.run_id, after, ended=ended)) as stored:
        async for item in stored:
            if isinstance(item, MoreToCome) or len(items) >= most or size >= _PAGE_BYTES:
                more = True
                break
            position = item.cursor
            if takes(item.event):
                items.append(item.shown())
                size += _size(item)
    return page_of(run, items, position, more=more)


def page_of(
    run: RunSnapshot, items: list[Event], position: Cursor | None, *, more: bool
) -> EventPage:
    """A page of events up to a position; ``more``: there is more now, or soon."""
    place = None if position is None else str(position)
    return EventPage(
        run_id=run.run_id,
        items=items,
        next_cursor=place or str(BEGINNING) if more else None,
        position=place,
    )


def _size(item: StoredEvent) -> int:
    return len(item.event.text) if isinstance(item.event, LogChunk) else 200
