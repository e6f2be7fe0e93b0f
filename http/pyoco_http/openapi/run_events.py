"""The routes that tell what happens in runs, described."""

from __future__ import annotations

from typing import Final

from pyoco_http.openapi.operation import (
    EVENT,
    FLAG,
    NUMBER,
    TEXT,
    Operation,
    Operations,
    Param,
    fields,
    json_of,
    listed,
    whole,
)
from pyoco_http.openapi.runs import FILTER, INCLUDE, NULLABLE_TEXT
from pyoco_server.model.graph_structure import GraphEdge, GraphNode

_EVENTS: Final = fields(
    {
        "run_id": TEXT,
        "items": listed(fields({"id": TEXT, "type": TEXT, "at": NUMBER})),
        "next_cursor": NULLABLE_TEXT,
        "position": NULLABLE_TEXT,
    }
)
_GRAPH: Final = fields(
    {
        "run_id": TEXT,
        "flow_name": TEXT,
        "source": TEXT,
        "nodes": listed(GraphNode),
        "edges": listed(GraphEdge),
    }
)

_FOLLOW: Final = (
    Param("cursor", {"type": "string", "format": "event-cursor"}, "Go on behind this event."),
    Param(
        "Last-Event-ID", {"type": "string", "format": "event-cursor"}, "The same.", place="header"
    ),
    Param(
        "follow",
        FLAG,
        "Whether to stream what comes as server-sent events, which `Accept: text/event-stream` asks for too.",
    ),
    Param("limit", whole(1, 1000, 200), "How many at most."),
)

_LAST_ID: Final = {"type": "string", "format": "event-cursor"}

RUN_EVENTS: Final[Operations] = {
    ("GET", "/runs/stream"): Operation(
        "Follow a list of runs by server-sent events",
        {"text/event-stream": EVENT},
        (
            *FILTER,
            Param("counts", FLAG, "Whether counts come as well."),
            Param("timeout_sec", whole(1, 86_400), "How long; for ever when left out."),
            Param("last_event_id", _LAST_ID, "Go on behind this event."),
            Param("Last-Event-ID", _LAST_ID, "The same.", place="header"),
        ),
        refusals={422: "invalid list query"},
        doc="`hello`, then `run` and `gone` for each change, `reset` when the list has to be loaded again, "
        "`counts`, and `heartbeat` when 5 seconds pass without one.",
    ),
    ("GET", "/runs/{run_id}/watch"): Operation(
        "Follow a run by server-sent events",
        {"text/event-stream": EVENT},
        (
            INCLUDE,
            Param("since", NUMBER, "Skip a first state that changed before, in unix seconds."),
            Param("timeout_sec", {"type": "number", "minimum": 1, "maximum": 600}, "How long."),
        ),
        refusals={404: "run not found", 422: "invalid since, or invalid timeout_sec"},
        doc="`snapshot` at once and on every change, `heartbeat` when 5 seconds pass without one.",
    ),
    ("GET", "/runs/{run_id}/events"): Operation(
        "Read or follow what happened in a run",
        {"application/json": _EVENTS, "text/event-stream": EVENT},
        (
            *_FOLLOW,
            Param(
                "type",
                {"type": "string", "enum": ["state", "task", "log", "flow", "truncated", ""]},
                "Only events of this type; repeatable, or with commas.",
            ),
        ),
        refusals={404: "run not found", 422: "invalid cursor, or another parameter"},
    ),
    ("GET", "/runs/{run_id}/logs"): Operation(
        "Read or follow what the tasks of a run printed",
        {"application/json": _EVENTS, "text/plain": TEXT, "text/event-stream": EVENT},
        (
            *_FOLLOW,
            Param("task", TEXT, "Only of this task."),
            Param("stream", {"type": "string", "enum": ["stdout", "stderr"]}, "Only this stream."),
            Param("attempt", whole(0, 10**18 - 1), "Only of this attempt."),
            Param("since", NUMBER, "Only what was printed since, in unix seconds."),
            Param("tail", whole(1, 10_000), "The last so many lines; not with follow."),
            Param("format", {"type": "string", "enum": ["json", "text"]}, "text: as printed."),
        ),
        refusals={404: "run not found", 422: "invalid cursor, or another parameter"},
    ),
    ("GET", "/runs/{run_id}/workflow"): Operation(
        "Read the flow.yaml that a run brought",
        {"application/yaml": TEXT},
        refusals={404: "run not found, or workflow not found"},
    ),
    ("GET", "/runs/{run_id}/graph"): Operation(
        "Read what the flow of a run looks like",
        json_of(_GRAPH),
        refusals={404: "run not found, or graph not known"},
    ),
}
