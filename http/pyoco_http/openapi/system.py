"""The other routes, described."""

from __future__ import annotations

from typing import Final

from pyoco_http.openapi.operation import (
    BYTES,
    EMPTY,
    FLAG,
    NUMBER,
    OBJECT,
    RANGE,
    TEXT,
    Operation,
    Operations,
    Param,
    closed,
    fields,
    file_of,
    json_of,
    listed,
    nullable,
    whole,
)
from pyoco_http.system import MOST_MINUTES, MOST_STEPS
from pyoco_http.workers import HiddenBody, Scope
from pyoco_server.model.wheel_history import WheelEvent
from pyoco_server.model.worker import WorkerRecord, WorkerState

_WHEEL: Final = fields(
    {
        "name": TEXT,
        "size_bytes": {"type": "integer"},
        "digest": TEXT,
        "sha256_b64": TEXT,
        "sha256_hex": TEXT,
        "mtime": nullable("string"),
        "nuid": nullable("string"),
        "bucket": TEXT,
        "tags": listed(TEXT),
    }
)
_LETTER: Final = fields(
    {
        "seq": {"type": "integer"},
        "timestamp": NUMBER,
        "reason": TEXT,
        "error": nullable("string"),
    }
)
_ORDERED: Final = fields(
    {
        "worker_id": TEXT,
        "instance_id": TEXT,
        "paused": {"type": "boolean"},
        "draining": {"type": "boolean"},
        "updated_at": NUMBER,
    }
)
_NO_ORDER: Final = {404: "worker not found", 409: "worker takes no orders"}
_HTML: Final = {"text/html": TEXT}
_READY: Final = fields({"status": TEXT, "reasons": listed(TEXT), "nats": OBJECT})

SYSTEM: Final[Operations] = {
    ("GET", "/health"): Operation(
        "Whether the process is alive",
        json_of(fields({"status": {"type": "string", "const": "ok"}})),
    ),
    ("GET", "/health/ready"): Operation(
        "Whether it can do its work, and what stands in the way",
        json_of(_READY),
        refusals={503: "not ready"},
        bodies={503: json_of(_READY)},
    ),
    ("GET", "/metrics"): Operation("Metrics for Prometheus", {"text/plain": TEXT}),
    ("GET", "/actors"): Operation("The supervision tree", json_of(fields({"tree": OBJECT}))),
    ("GET", "/queues"): Operation(
        "The queues of all tags",
        json_of(fields({"queues": listed(OBJECT), "dead_letters": nullable("integer")})),
    ),
    ("GET", "/stats"): Operation(
        "What happened in each of the last minutes",
        json_of(fields({"minutes": listed(fields({"start": NUMBER}))})),
        (
            Param("minutes", whole(1, MOST_MINUTES, 60), "How many."),
            Param(
                "step_minutes",
                whole(1, MOST_MINUTES, 1),
                f"How many of them are one of the answer's; it has at most {MOST_STEPS:,}.",
            ),
            Param("percentiles", FLAG, "Whether p50, p95 and p99 of waits and runs come as well."),
        ),
        refusals={422: "invalid stats request"},
    ),
    ("POST", "/flows/check"): Operation(
        "Look at a flow.yaml without running it",
        json_of(
            fields(
                {
                    "graph": OBJECT,
                    "defaults": OBJECT,
                    "tasks": OBJECT,
                    "unlisted": listed(TEXT),
                    "sha256": TEXT,
                    "bytes": {"type": "integer"},
                }
            )
        ),
        body={"text/plain": {"type": "string", "format": "flow-yaml"}},
        refusals={422: "invalid workflow yaml"},
    ),
    ("GET", "/workers"): Operation(
        "List workers, last seen first",
        json_of(listed(WorkerRecord)),
        (
            Param(
                "scope",
                {
                    "type": "string",
                    "enum": [*(scope.value for scope in Scope), "active", "all", ""],
                },
                "active: RUNNING and IDLE ones; all.",
            ),
            Param(
                "state",
                {"type": "string", "enum": [*(state.value for state in WorkerState), ""]},
                "Only workers of this state; repeatable, or with commas.",
            ),
            Param("include_hidden", FLAG, "Whether hidden ones too."),
            Param("limit", whole(1, 500, 100), "How many at most."),
        ),
        refusals={422: "invalid workers request"},
    ),
    ("PATCH", "/workers/{worker_id}"): Operation(
        "Hide a worker from lists, or show it again",
        json_of(fields({"worker_id": TEXT, "hidden": {"type": "boolean"}, "updated_at": NUMBER})),
        body=json_of(HiddenBody),
        refusals={404: "worker not found", 422: "invalid workers request"},
    ),
    ("POST", "/workers/{worker_id}/pause"): Operation(
        "Let a worker take no further job", json_of(_ORDERED), refusals=_NO_ORDER
    ),
    ("POST", "/workers/{worker_id}/resume"): Operation(
        "Let a paused worker take jobs again", json_of(_ORDERED), refusals=_NO_ORDER
    ),
    ("POST", "/workers/{worker_id}/drain"): Operation(
        "Let a worker finish what it runs, and end", json_of(_ORDERED), refusals=_NO_ORDER
    ),
    ("GET", "/wheels"): Operation("List wheels, by name", json_of(listed(_WHEEL))),
    ("POST", "/wheels"): Operation(
        "Upload a wheel",
        json_of(_WHEEL),
        body={
            "multipart/form-data": closed(
                {"wheel": file_of("wheel")},
                replace=FLAG,
                shared=FLAG,
                tags={"type": "string", "format": "worker-tags"},
            )
        },
        files={"wheel": "demo-1.0-py3-none-any.whl"},
        refusals={
            409: "wheel version already exists; bump version, or wheel version must be greater than "
            "existing latest version",
            422: "invalid wheel name, invalid wheel filename, or invalid wheel tags",
        },
    ),
    ("GET", "/wheels/{name}"): Operation(
        "Download a wheel, or a part of it",
        BYTES,
        (RANGE,),
        refusals={
            206: "the part that was asked for",
            404: "wheel not found",
            416: "range not satisfiable",
            422: "invalid wheel name",
        },
        bodies={206: BYTES},
    ),
    ("DELETE", "/wheels/{name}"): Operation(
        "Delete a wheel",
        json_of(fields({"name": TEXT, "deleted": {"type": "boolean"}})),
        refusals={404: "wheel not found", 422: "invalid wheel name"},
    ),
    ("GET", "/wheels/history"): Operation(
        "What was done to wheels, the newest first",
        json_of(listed(WheelEvent)),
        (
            Param("limit", {"anyOf": [whole(1, 500, 100), EMPTY]}, "How many at most."),
            Param("wheel_name", {"type": "string", "format": "wheel-name"}, "Only of this wheel."),
            Param("action", {"type": "string", "enum": ["upload", "delete", ""]}, "Only these."),
        ),
        refusals={422: "invalid action, invalid limit, or invalid wheel name"},
    ),
    ("GET", "/dlq"): Operation(
        "List dead letters, the newest first",
        json_of(fields({"items": listed(_LETTER), "next_cursor": nullable("string")})),
        (
            Param("reason", TEXT, "Only those for this reason."),
            Param(
                "tag",
                {"type": "string", "pattern": r"^[A-Za-z0-9_-]{0,200}$"},
                "Only those of this tag.",
            ),
            Param("run_id", TEXT, "Only those about this run."),
            Param("cursor", whole(1, 10**18 - 1), "A next_cursor."),
            Param("limit", whole(1, 200, 50), "How many at most."),
        ),
        refusals={422: "invalid tag, invalid cursor, or invalid limit"},
    ),
    ("GET", "/dlq/{seq}"): Operation(
        "Read a dead letter", json_of(_LETTER), refusals={404: "dead letter not found"}
    ),
    ("DELETE", "/dlq/{seq}"): Operation(
        "Drop a dead letter",
        json_of(fields({"seq": {"type": "integer"}, "deleted": {"type": "boolean"}})),
        refusals={404: "dead letter not found"},
    ),
    ("POST", "/dlq/{seq}/requeue"): Operation(
        "Submit the run of a dead letter again, as a new run",
        json_of(fields({"run_id": TEXT, "status": TEXT})),
        refusals={404: "dead letter not found", 409: "run cannot be submitted again"},
    ),
    ("GET", "/"): Operation("The dashboard", _HTML),
    ("GET", "/static/{name}"): Operation(
        "A file of the dashboard", {"*/*": TEXT}, refusals={404: "not found"}
    ),
    ("GET", "/openapi.json"): Operation("This document", json_of(OBJECT)),
    ("GET", "/docs"): Operation("This document, for people", _HTML),
}
