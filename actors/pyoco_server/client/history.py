"""The calls about what happened in runs, and how one follows it over many connections. Does no I/O."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pyoco_server.client.requests import Call, Document, get, parse_object, segment
from pyoco_server.client.sse import SseEvent
from pyoco_server.client.watch import Watch, decode_event

_PAGE_ITEMS = 1000


def get_events(
    run_id: str, *, types: tuple[str, ...] = (), cursor: str | None = None
) -> Call[Document]:
    """``GET /runs/{run_id}/events``, a page."""
    return get(
        f"/runs/{segment(run_id)}/events",
        parse_object,
        type=",".join(types),
        cursor=cursor,
        limit=_PAGE_ITEMS,
    )


def get_logs(
    run_id: str,
    *,
    task: str | None = None,
    stream: str | None = None,
    attempt: int | None = None,
    since: float | None = None,
    tail: int | None = None,
    cursor: str | None = None,
) -> Call[Document]:
    """``GET /runs/{run_id}/logs``, a page."""
    return get(
        f"/runs/{segment(run_id)}/logs",
        parse_object,
        task=task,
        stream=stream,
        attempt=attempt,
        since=since,
        tail=tail,
        cursor=cursor,
        limit=_PAGE_ITEMS,
    )


def get_graph(run_id: str) -> Call[Document]:
    """``GET /runs/{run_id}/graph``."""
    return get(f"/runs/{segment(run_id)}/graph", parse_object)


def retry_run(run_id: str) -> Call[Document]:
    """``POST /runs/{run_id}/retry``; not repeatable, because each one makes a run."""
    return Call("POST", f"/runs/{segment(run_id)}/retry", parse_object)


def list_dead_letters(
    *,
    limit: int | None = None,
    cursor: str | None = None,
    reason: str | None = None,
    tag: str | None = None,
    run_id: str | None = None,
) -> Call[Document]:
    """``GET /dlq``, a page."""
    return get(
        "/dlq", parse_object, limit=limit, cursor=cursor, reason=reason, tag=tag, run_id=run_id
    )


def get_dead_letter(seq: int) -> Call[Document]:
    """``GET /dlq/{seq}``."""
    return get(f"/dlq/{int(seq)}", parse_object)


def requeue_dead_letter(seq: int) -> Call[Document]:
    """``POST /dlq/{seq}/requeue``; not repeatable, because the letter is gone after it."""
    return Call("POST", f"/dlq/{int(seq)}/requeue", parse_object)


def drop_dead_letter(seq: int) -> Call[Document]:
    """``DELETE /dlq/{seq}``; not repeatable, because a second one does not find it."""
    return Call("DELETE", f"/dlq/{int(seq)}", parse_object)


@dataclass(slots=True)
class EventWatch(Watch):
    """Follows a stream of events, each connection behind the last event that was seen.

    Attributes:
        first: The call that reads the events from where to begin.
        cursor: The id of the last event that was seen.
        status: How the run ended, after its end.
    """

    first: Call[Document] = field(kw_only=True)
    cursor: str | None = None
    status: str | None = None

    def next_call(self, now: float) -> Call[Document] | None:
        """Return the stream to open, or ``None`` when all is told."""
        if self.ended or now >= self.deadline:
            return None
        params: dict[str, Any] = {**self.first.params, "follow": 1}
        params.pop("limit", None)
        if self.cursor is not None:
            params["cursor"] = self.cursor
        headers: Mapping[str, str] = {"Accept": "text/event-stream"}
        return replace(self.first, params=params, headers=headers)

    def take(self, event: SseEvent, now: float) -> Document | None:
        """Return the event; ``None`` for a sign of life and for the end."""
        self._heard(now)
        data = decode_event(event)["data"]
        if event.event == "end":
            self.ended = True
            self.status = data.get("status") if isinstance(data, dict) else None
            return None
        if event.id and event.event != "heartbeat":
            self.cursor = event.id
        if event.event == "heartbeat" or not isinstance(data, dict):
            return None
        return data


def event_watch(
    first: Call[Document], *, run_id: str, now: float, within_seconds: float | None, **more: Any
) -> EventWatch:
    """Begin to follow; times are seconds of one steady clock."""
    limit = math.inf if within_seconds is None else within_seconds
    return EventWatch(run_id, deadline=now + limit, first=first, **more)
