"""What the tasks of a run printed."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from quart import Blueprint, Response, request

from pyoco_http.access import Access, access, see
from pyoco_http.event_pages import cursor, follows, limit, page, places
from pyoco_http.event_streams import EventStream, text_of, view
from pyoco_http.query import number, refuse, whole, word
from pyoco_http.runs import known_id
from pyoco_server.backend import Backend
from pyoco_server.gateway.event_reader import Cursor, MoreToCome, StoredEvent
from pyoco_server.gateway.run_logs import LastLines, LogFilter
from pyoco_server.model.run import RunSnapshot

_MOST_LINES = 10_000
_TEXT = "text/plain; charset=utf-8"
# How long the last output of an ended run is waited for: a text cannot say that more comes.
_PAGE_SECONDS = 1.0
_TEXT_SECONDS = 5.0


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
            return await _tail(backend, run, after, wanted, tail, as_text=as_text)
        if as_text:
            return Response(_text(backend, run, after, wanted), content_type=_TEXT)
        return await page(backend, run, after, wanted.takes, most)

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
    run: RunSnapshot,
    after: Cursor | None,
    wanted: LogFilter,
    count: int,
    *,
    as_text: bool,
) -> dict[str, Any] | Response:
    lines = LastLines(count)
    position, more = after, False
    ended, patience = run.status.terminal, _TEXT_SECONDS if as_text else _PAGE_SECONDS
    stored_events = backend.events.stored(run.run_id, after, ended=ended, patience=patience)
    async with aclosing(stored_events) as stored:
        async for item in stored:
            if isinstance(item, MoreToCome):
                more = True
                break
            position = item.cursor
            if wanted.takes(item.event):
                lines.add(item)
    if as_text:
        text = "".join(text_of(item.event) for item in lines.items())
        return Response(text, content_type=_TEXT)
    return {
        "run_id": run.run_id,
        "items": [view(item) for item in lines.items()],
        **places(position, more=more),
    }


async def _text(
    backend: Backend, run: RunSnapshot, after: Cursor | None, wanted: LogFilter
) -> AsyncGenerator[bytes, None]:
    ended = run.status.terminal
    stored_events = backend.events.stored(run.run_id, after, ended=ended, patience=_TEXT_SECONDS)
    async with aclosing(stored_events) as stored:
        async for item in stored:
            if isinstance(item, StoredEvent) and wanted.takes(item.event):
                yield text_of(item.event).encode()
