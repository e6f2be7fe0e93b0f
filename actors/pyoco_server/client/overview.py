"""The calls about an installation as a whole: all runs, workers, queues, health. Does no I/O."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias, TypedDict, cast

from pyoco_server.client.requests import (
    Call,
    Document,
    get,
    parse_object,
    parse_objects,
    parse_page,
    parse_text,
    segment,
    with_params,
)
from pyoco_server.client.retry import RetryPolicy
from pyoco_server.client.sse import SseEvent
from pyoco_server.client.watch import Watch, decode_event

WorkerOrder: TypeAlias = Literal["pause", "resume", "drain"]


class RunQuery(TypedDict, total=False):
    """Which runs; what is absent or ``None`` does not matter. Times are unix seconds."""

    status: str | None
    """One or more, with commas in between."""
    flow: str | None
    tag: str | None
    worker_id: str | None
    workflow_yaml_sha256: str | None
    q: str | None
    """Text that a run's id, flow name or error contains; ASCII letters match in both cases."""
    updated_after: float | None
    updated_before: float | None
    submitted_after: float | None
    submitted_before: float | None


def find_runs(
    query: RunQuery, *, full: bool = False, limit: int | None = None, cursor: str | None = None
) -> Call[Document]:
    """``GET /runs``, as ``{items, next_cursor}``."""
    return _of(
        query,
        get("/runs", parse_page, include="full" if full else None, limit=limit, cursor=cursor),
    )


def count_runs(query: RunQuery) -> Call[Document]:
    """``GET /runs/counts``."""
    return _of(query, get("/runs/counts", parse_object))


def get_queues() -> Call[Document]:
    """``GET /queues``."""
    return get("/queues", parse_object)


def get_actors() -> Call[Document]:
    """``GET /actors``."""
    return get("/actors", parse_object)


def get_workers(
    *,
    scope: str | None = None,
    state: str | None = None,
    include_hidden: bool | None = None,
    limit: int | None = None,
) -> Call[list[Document]]:
    """``GET /workers``."""
    return get(
        "/workers",
        parse_objects,
        scope=scope,
        state=state,
        include_hidden=include_hidden,
        limit=limit,
    )


def patch_worker_hidden(worker_id: str, *, hidden: bool) -> Call[Document]:
    """``PATCH /workers/{worker_id}``."""
    return Call(
        "PATCH",
        f"/workers/{segment(worker_id)}",
        parse_object,
        json={"hidden": bool(hidden)},
        repeatable=True,
    )


def order_worker(worker_id: str, order: WorkerOrder) -> Call[Document]:
    """``POST /workers/{worker_id}/pause``, ``resume`` or ``drain``."""
    return Call("POST", f"/workers/{segment(worker_id)}/{order}", parse_object, repeatable=True)


def get_metrics() -> Call[str]:
    """``GET /metrics``."""
    return get("/metrics", parse_text)


def get_stats(*, minutes: int | None = None) -> Call[Document]:
    """``GET /stats``."""
    return get("/stats", parse_object, minutes=minutes)


def get_health() -> Call[Document]:
    """``GET /health``."""
    return get("/health", parse_object)


def get_ready() -> Call[Document]:
    """``GET /health/ready``; that it is not ready is an answer too."""
    return replace(get("/health/ready", _readiness), also=503)


def get_api_description() -> Call[Document]:
    """``GET /openapi.json``."""
    return get("/openapi.json", parse_object)


def _readiness(body: bytes) -> Document:
    match parse_object(body):
        case {"reasons": list()} as document:
            return dict(document)
        case _:
            raise ValueError("account of what is ready")


@dataclass(slots=True)
class ListWatch(Watch):
    """Follows the changes of a list of runs, each connection behind the last change that was seen.

    Attributes:
        first: The call that opens the stream.
        last_id: The id of the last change that was seen.
    """

    first: Call[Document] = field(kw_only=True)
    last_id: str | None = None

    def next_call(self, now: float) -> Call[Document] | None:
        """Return the stream to open, or ``None`` when the time is over."""
        if self.ended or now >= self.deadline:
            return None
        call = self.first
        if self.deadline < math.inf:
            call = with_params(call, timeout_sec=max(1, math.ceil(self.deadline - now)))
        headers = {"Accept": "text/event-stream"}
        if self.last_id is not None:
            headers["Last-Event-ID"] = self.last_id
        return replace(call, headers=headers)

    def take(self, event: SseEvent, now: float) -> Document | None:
        """Return ``{event, data}``; ``None`` for a sign of life, and for a greeting but the first."""
        self._heard(now)
        again = event.event == "hello" and self.last_id is not None
        if event.id:
            self.last_id = event.id
        return None if again or event.event == "heartbeat" else decode_event(event)


def list_watch(
    query: RunQuery, *, now: float, within_seconds: float | None, retry: RetryPolicy
) -> ListWatch:
    """Begin to follow; times are seconds of one steady clock."""
    limit = math.inf if within_seconds is None else within_seconds
    first = _of(query, get("/runs/stream", parse_object))
    return ListWatch("", deadline=now + limit, first=first, retry=retry)


def _of(query: RunQuery, call: Call[Document]) -> Call[Document]:
    given = cast("Mapping[str, Any]", query)
    return with_params(call, **{name: value for name, value in given.items() if value != ""})
