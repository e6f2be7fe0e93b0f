"""What happened in a run: events, logs, the graph of its flow."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from pyoco_server.api.base import EventCursor, Query, says
from pyoco_server.model.event import Event, EventType, LogChunk, OutputTruncated, StreamName
from pyoco_server.model.flow.structure import GraphEdge, GraphNode


class PlaceQuery(Query, frozen=True, kw_only=True):
    """Where to begin among stored events, and whether to follow those that come."""

    cursor: EventCursor = ""
    follow: Annotated[
        bool | None,
        says(
            "Whether to stream what comes as server-sent events, "
            "which `Accept: text/event-stream` asks for too."
        ),
    ] = None
    limit: Annotated[int, Meta(ge=1, le=1000, description="How many at most.")] = 200


class EventsQuery(PlaceQuery, frozen=True, kw_only=True):
    """Which events of a run."""

    type: Annotated[tuple[EventType, ...], says("Only events of this type.")] = ()


class LogsQuery(PlaceQuery, frozen=True, kw_only=True):
    """Which output of a run."""

    task: Annotated[str, says("Only of this task.")] = ""
    stream: Annotated[StreamName | None, says("Only this stream.")] = None
    attempt: (
        Annotated[int, Meta(ge=0, le=10**18 - 1, description="Only of this attempt.")] | None
    ) = None
    since: Annotated[float | None, says("Only what was printed since, in unix seconds.")] = None
    tail: (
        Annotated[
            int, Meta(ge=1, le=10_000, description="The last so many lines; not with follow.")
        ]
        | None
    ) = None
    format: Annotated[Literal["json", "text"], says("text: as printed.")] = "json"


class EventPage(msgspec.Struct, kw_only=True, frozen=True):
    """Stored events, in order."""

    run_id: str
    items: list[Event]
    next_cursor: str | None
    """Where more is now, or soon."""
    position: str | None
    """Where what comes later will follow."""


class LogPage(EventPage, kw_only=True, frozen=True):
    """Stored output, in order."""

    items: list[LogChunk | OutputTruncated]  # type: ignore[assignment]


class RunGraph(msgspec.Struct, kw_only=True, frozen=True):
    """What the flow of a run looks like."""

    run_id: str
    flow_name: str
    source: Literal["workflow", "run", "tasks"]
    """Where it is known from: the run's flow.yaml, the process that executes it, or only its tasks."""
    nodes: tuple[GraphNode, ...]
    edges: tuple[GraphEdge, ...]
