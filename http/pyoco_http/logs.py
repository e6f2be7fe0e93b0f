"""What the tasks of a run printed."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from quart import Blueprint, Response, request

from pyoco_http.access import Access, access, run_seen
from pyoco_http.call import asked
from pyoco_http.event_pages import cursor, follows, page, page_of
from pyoco_http.event_streams import followed, plain_of, sse_of, text_of
from pyoco_http.operation import LAST_EVENT_ID, TEXT, described
from pyoco_http.query import refused
from pyoco_server.api.events import EventPage, LogPage, LogsQuery
from pyoco_server.api.runs import ToldEnd, ToldOfRun
from pyoco_server.backend import Backend
from pyoco_server.gateway.event_reader import Cursor, MoreToCome, StoredEvent
from pyoco_server.gateway.run_logs import LastLines, LogFilter
from pyoco_server.model.event import LogChunk, OutputTruncated
from pyoco_server.model.run import RunSnapshot

_TEXT = "text/plain; charset=utf-8"
# How long the last output of an ended run is waited for: a text cannot say that more comes.
_PAGE_SECONDS = 1.0
_TEXT_SECONDS = 5.0


def logs_blueprint(backend: Backend) -> Blueprint:
    """`GET /runs/{run_id}/logs`."""
    blueprint = Blueprint("logs", __name__, url_prefix="/runs")

    @blueprint.get("/<run_id>/logs")
    @access(Access.READ)
    @described(
        "Read or follow what the tasks of a run printed",
        {"application/json": LogPage, "text/plain": TEXT},
        events={
            "log": LogChunk,
            "truncated": OutputTruncated,
            "heartbeat": ToldOfRun,
            "end": ToldEnd,
        },
        query=LogsQuery,
        headers=(LAST_EVENT_ID,),
        refusals={404: "run not found"},
    )
    async def logs(run_id: str) -> EventPage | Response:
        run = await run_seen(backend, run_id)
        query = asked(LogsQuery)
        wanted = LogFilter(
            task=query.task or None,
            stream=query.stream,
            attempt=query.attempt,
            since=query.since,
        )
        after, tail = cursor(query), query.tail
        as_text = query.format == "text"
        if follows(query):
            if tail is not None:
                takes = "no part in follow: read the tail, then follow its position"
                raise refused(LogsQuery, "tail", takes)
            items = followed(backend, run_id, after, wanted.takes)
            return plain_of(items) if as_text else sse_of(run_id, items)
        if tail is not None:
            return await _tail(backend, run, after, wanted, tail, as_text=as_text)
        if as_text:
            text = _text(backend, run, after, wanted)
            if request.method != "HEAD":
                await anext(text, b"")
            return Response(text, content_type=_TEXT)
        return await page(backend, run, after, wanted.takes, query.limit)

    return blueprint


async def _tail(
    backend: Backend,
    run: RunSnapshot,
    after: Cursor | None,
    wanted: LogFilter,
    count: int,
    *,
    as_text: bool,
) -> EventPage | Response:
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
    return page_of(run, [item.shown() for item in lines.items()], position, more=more)


async def _text(
    backend: Backend, run: RunSnapshot, after: Cursor | None, wanted: LogFilter
) -> AsyncGenerator[bytes, None]:
    """The text, behind an empty piece that says that events can be read."""
    ended = run.status.terminal
    stored_events = backend.events.stored(run.run_id, after, ended=ended, patience=_TEXT_SECONDS)
    async with aclosing(stored_events) as stored:
        item = await anext(stored, None)
        yield b""
        while item is not None:
            if isinstance(item, StoredEvent) and wanted.takes(item.event):
                yield text_of(item.event).encode()
            item = await anext(stored, None)
