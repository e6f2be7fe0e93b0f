"""What the tasks of a run printed."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from quart import Blueprint, Response, request

from pyoco_http.access import Access, access, see
from pyoco_http.event_pages import cursor, follows, limit, page
from pyoco_http.event_streams import EventStream, text_of, view
from pyoco_http.query import number, refuse, whole, word
from pyoco_http.runs import known_id
from pyoco_server.backend import Backend
from pyoco_server.gateway.event_reader import Cursor
from pyoco_server.gateway.run_logs import LastLines, LogFilter

_MOST_LINES = 10_000
_TEXT = "text/plain; charset=utf-8"


def logs_blueprint(backend: Backend) -> Blueprint:
    """`GET /runs/{run_id}/logs`."""
    blueprint = Blueprint("logs", __name__, url_prefix="/runs")

    @blueprint.get("/<run_id>/logs")
    @access(Access.READ)
    async def logs(run_id: str) -> dict[str, Any] | Response:
        run = see(await backend.get(known_id(run_id)))
        wanted = _wanted()
        after = cursor()
        most = limit()
        tail = whole("tail", 1, _MOST_LINES)
        as_text = word("format", "json", "text") == "text"
        if follows():
            if tail is not None:
                raise refuse("tail", "no part in follow: read the tail, then follow its position")
            stream = EventStream(backend, run, after, wanted.takes)
            return stream.text() if as_text else stream.sse()
        if tail is not None:
            return await _tail(backend, run_id, after, wanted, tail, as_text=as_text)
        if as_text:
            return Response(_text(backend, run_id, after, wanted), content_type=_TEXT)
        return await page(backend, run_id, after, wanted.takes, most)

    return blueprint


def _wanted() -> LogFilter:
    return LogFilter(
        task=request.args.get("task"),
        stream=word("stream", "stdout", "stderr"),
        attempt=whole("attempt", 0),
        since=number("since"),
    )


async def _tail(
    backend: Backend,
    run_id: str,
    after: Cursor | None,
    wanted: LogFilter,
    count: int,
    *,
    as_text: bool,
) -> dict[str, Any] | Response:
    lines = LastLines(count)
    position = after
    async with aclosing(backend.events.stored(run_id, after)) as stored:
        async for item in stored:
            position = item.cursor
            if wanted.takes(item.event):
                lines.add(item)
    if as_text:
        text = "".join(text_of(item.event) for item in lines.items())
        return Response(text, content_type=_TEXT)
    return {
        "run_id": run_id,
        "items": [view(item) for item in lines.items()],
        "next_cursor": None,
        "position": None if position is None else str(position),
    }


async def _text(
    backend: Backend, run_id: str, after: Cursor | None, wanted: LogFilter
) -> AsyncGenerator[bytes, None]:
    async with aclosing(backend.events.stored(run_id, after)) as stored:
        async for item in stored:
            if wanted.takes(item.event):
                yield text_of(item.event).encode()
