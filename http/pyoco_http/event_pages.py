"""What the routes of events and logs share: where to read from, and a page of what is stored."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import aclosing
from typing import Any

from quart import request

from pyoco_http.event_streams import view
from pyoco_http.query import flag, refuse, whole
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

_DEFAULT_LIMIT = 200
_MOST_ITEMS = 1000
# A page ends behind the event that passes this.
_PAGE_BYTES = 1024 * 1024


def follows() -> bool:
    """Whether the client wants what comes: by ``follow``, or else by what it accepts."""
    if "follow" in request.args:
        return flag("follow")
    return "text/event-stream" in request.accept_mimetypes.values()


def cursor() -> Cursor | None:
    """Where the client wants to go on: ``cursor`` of the query, or the ``Last-Event-ID`` of a reconnect.

    Raises:
        Problem: It is none.
    """
    name = "cursor"
    text = request.args.get(name)
    if text is None:
        name, text = "Last-Event-ID", request.headers.get("Last-Event-ID")
    if not text:
        return None
    try:
        return Cursor.parse(text)
    except InvalidCursor as error:
        raise refuse(name, str(error)) from None


def limit() -> int:
    """How many events a page has at most.

    Raises:
        Problem: It is no such number.
    """
    return whole("limit", 1, _MOST_ITEMS) or _DEFAULT_LIMIT


async def page(
    backend: Backend,
    run: RunSnapshot,
    after: Cursor | None,
    takes: Callable[[Event], bool],
    most: int,
) -> dict[str, Any]:
    """Return stored events, where to go on for more at once, and where for what comes later.

    Of a run that has ended, the last events are waited for, a second at most.

    Raises:
        BridgeError: NATS could not be asked.
    """
    items: list[dict[str, Any]] = []
    size = 0
    more = False
    position = after
    ended = run.status.terminal
    async with aclosing(backend.events.stored(run.run_id, after, ended=ended)) as stored:
        async for item in stored:
            if isinstance(item, MoreToCome):
                more = True
                break
            if len(items) >= most or size >= _PAGE_BYTES:
                more = True
                break
            position = item.cursor
            if takes(item.event):
                items.append(view(item))
                size += _size(item)
    return {"run_id": run.run_id, "items": items, **places(position, more=more)}


def places(position: Cursor | None, *, more: bool) -> dict[str, str | None]:
    """Where to go on: at once, where there is more now or soon, and for what comes later."""
    place = None if position is None else str(position)
    return {"next_cursor": place or str(BEGINNING) if more else None, "position": place}


def _size(item: StoredEvent) -> int:
    return len(item.event.text) if isinstance(item.event, LogChunk) else 200
