"""The routes below ``/runs``, described."""

from __future__ import annotations

from typing import Final

from pyoco_http.openapi.operation import (
    FLAG,
    NUMBER,
    OBJECT,
    PRINTABLE,
    TEXT,
    Operation,
    Operations,
    Param,
    Schema,
    fields,
    json_of,
    listed,
    nullable,
    whole,
)
from pyoco_http.submissions import MAX_BATCH_RUNS, SubmitBody
from pyoco_server.model.graph_structure import GraphEdge, GraphNode
from pyoco_server.model.run import RunStatus, TaskRecord

_STATUS: Final[Schema] = {"type": "string", "enum": [status.value for status in RunStatus]}
_FEW_STATUSES: Final[Schema] = {"type": "string", "enum": [*RunStatus, ""]}
_TIME: Final[Schema] = nullable("number")
_NAME: Final[Schema] = nullable("string")
_TAG: Final[Schema] = {"type": "string", "pattern": "^[A-Za-z0-9_-]+$"}

_ACCEPTED: Final = fields({"run_id": TEXT, "status": _STATUS})
_SNAPSHOT_FIELDS: Final[dict[str, Schema]] = {
    "run_id": TEXT,
    "flow_name": TEXT,
    "status": _STATUS,
    "tag": _NAME,
    "tags": listed(TEXT),
    "tenant_id": _NAME,
    "api_key_id": _NAME,
    "workflow_yaml_sha256": _NAME,
    "workflow_yaml_bytes": nullable("integer"),
    "params": OBJECT,
    "tasks": OBJECT,
    "start_time": _TIME,
    "end_time": _TIME,
    "heartbeat_at": _TIME,
    "updated_at": _TIME,
    "error": _NAME,
    "worker_id": _NAME,
    "cancel_requested_at": _TIME,
    "cancel_requested_by": _NAME,
}
_RECORDS: Final[Schema] = {"type": "object", "additionalProperties": TaskRecord}
_SNAPSHOT: Final = fields(
    _SNAPSHOT_FIELDS,
    task_records=_RECORDS,
    task_records_truncated={"type": "boolean"},
    worker_alive={"type": "boolean"},
    worker_state=TEXT,
    worker_heartbeat_at=_TIME,
    worker_hidden={"type": "boolean"},
    worker_tags=listed(TEXT),
)
_TASKS: Final = fields(
    {
        "run_id": TEXT,
        "flow_name": TEXT,
        "status": _STATUS,
        "tasks": OBJECT,
        "task_records": _RECORDS,
        "task_records_truncated": {"type": "boolean"},
    }
)
_ITEM: Final = fields(
    {
        "run_id": TEXT,
        "flow_name": TEXT,
        "tag": _NAME,
        "tags": listed(TEXT),
        "tenant_id": _NAME,
        "api_key_id": _NAME,
        "status": _STATUS,
        "updated_at": _TIME,
        "heartbeat_at": _TIME,
        "worker_id": _NAME,
        "error": _NAME,
    }
)
_COUNTS: Final = fields(
    {
        "counts": {"type": "object", "additionalProperties": {"type": "integer"}},
        "total": {"type": "integer"},
        "exact": {"type": "boolean"},
    }
)
_PAGE: Final[Schema] = {
    "oneOf": [
        listed(_ITEM),
        fields({"items": listed(_ITEM), "next_cursor": _NAME}),
    ]
}
_EVENTS: Final = fields(
    {
        "run_id": TEXT,
        "items": listed(fields({"id": TEXT, "type": TEXT, "at": NUMBER})),
        "next_cursor": _NAME,
        "position": _NAME,
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

_INCLUDE: Final = Param(
    "include", TEXT, "records, task_records, full or all: with task records; repeatable."
)
_KEY: Final = Param(
    "Idempotency-Key",
    {"type": "string", "format": "idempotency-key"},
    "All submissions with one key are one run, for a day.",
    "header",
)
_FILTER: Final = (
    Param("status", _FEW_STATUSES, "Only runs of this status; repeatable, or with commas."),
    Param("flow", PRINTABLE, "Only runs of this flow."),
    Param("tag", PRINTABLE, "Only runs of this tag."),
    Param("workflow_yaml_sha256", PRINTABLE, "Only runs of this flow.yaml, by its digest in hex."),
    Param("worker_id", PRINTABLE, "Only runs of this worker."),
    Param(
        "q",
        {"type": "string", "format": "printable", "maxLength": 200},
        "Only runs with this text in id, flow or error.",
    ),
    Param("updated_after", NUMBER, "Only runs that changed after this time, in unix seconds."),
    Param("updated_before", NUMBER, "Only runs that last changed before it."),
    Param("submitted_after", NUMBER, "Only runs submitted after it."),
    Param("submitted_before", NUMBER, "Only runs submitted before it."),
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
_STREAM: Final[Schema] = TEXT

RUNS: Final[Operations] = {
    ("GET", "/runs"): Operation(
        "List runs, the newest change first",
        json_of(_PAGE),
        (
            *_FILTER,
            Param("cursor", {"type": "string", "format": "list-cursor"}, "A next_cursor."),
            Param("limit", whole(1, 200, 50), "How many at most."),
            Param("counts", FLAG, "Whether to count as well."),
            Param("include", TEXT, "full: whole snapshots."),
        ),
        refusals={422: "invalid list query"},
        doc="A bare list, or `{items, next_cursor}` as soon as a parameter beyond those of the first "
        "version is given, such as `updated_after`, `cursor` or `workflow_yaml_sha256`.",
    ),
    ("GET", "/runs/counts"): Operation(
        "Count runs", json_of(_COUNTS), _FILTER, refusals={422: "invalid list query"}
    ),
    ("POST", "/runs"): Operation(
        "Submit a run of a flow that the workers know",
        json_of(_ACCEPTED),
        (_KEY,),
        json_of(SubmitBody),
        {409: "idempotency key already used", 422: "invalid request body, or invalid tag"},
        doc="200 only after the snapshot is stored and the job is queued.",
    ),
    ("POST", "/runs/yaml"): Operation(
        "Submit a run that brings its flow.yaml",
        json_of(_ACCEPTED),
        (_KEY,),
        {
            "multipart/form-data": fields(
                {
                    "workflow": {"type": "string", "format": "flow-yaml"},
                    "flow_name": {"type": "string", "pattern": "^[A-Za-z0-9_-]+$"},
                },
                tag=_TAG,
            )
        },
        {
            409: "idempotency key already used",
            422: "invalid workflow yaml, invalid tag, or missing flow_name",
        },
        doc="Params come from the file's `flow.defaults`.",
    ),
    ("POST", "/runs/batch"): Operation(
        "Submit many runs at once",
        json_of(
            fields(
                {
                    "accepted": {"type": "integer"},
                    "rejected": {"type": "integer"},
                    "items": listed(OBJECT),
                }
            )
        ),
        body=json_of(
            fields(
                {
                    "runs": {
                        "type": "array",
                        "items": fields(
                            {"flow_name": TEXT},
                            params=OBJECT,
                            tag=_TAG,
                            tags=listed(TEXT),
                            workflow_yaml=TEXT,
                            idempotency_key=TEXT,
                        ),
                        "minItems": 1,
                        "maxItems": MAX_BATCH_RUNS,
                    }
                }
            )
        ),
        refusals={422: "invalid request body"},
        doc="Each run is accepted or refused by itself; the answer has an item for each, in order.",
    ),
    ("GET", "/runs/{run_id}"): Operation(
        "Read a run", json_of(_SNAPSHOT), (_INCLUDE,), refusals={404: "run not found"}
    ),
    ("GET", "/runs/{run_id}/tasks"): Operation(
        "Read the tasks of a run", json_of(_TASKS), refusals={404: "run not found"}
    ),
    ("GET", "/runs/{run_id}/watch"): Operation(
        "Follow a run by server-sent events",
        {"text/event-stream": _STREAM},
        (
            _INCLUDE,
            Param("since", NUMBER, "Skip a first state that changed before, in unix seconds."),
            Param("timeout_sec", {"type": "number", "minimum": 1, "maximum": 600}, "How long."),
        ),
        refusals={404: "run not found", 422: "invalid since, or invalid timeout_sec"},
        doc="`snapshot` at once and on every change, `heartbeat` when 5 seconds pass without one.",
    ),
    ("POST", "/runs/{run_id}/cancel"): Operation(
        "Cancel a run",
        json_of(_SNAPSHOT),
        refusals={404: "run not found"},
        doc="A run that has ended is returned as it is.",
    ),
    ("GET", "/runs/{run_id}/events"): Operation(
        "Read or follow what happened in a run",
        {"application/json": _EVENTS, "text/event-stream": _STREAM},
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
        {"application/json": _EVENTS, "text/plain": TEXT, "text/event-stream": _STREAM},
        (
            *_FOLLOW,
            Param("task", TEXT, "Only of this task."),
            Param("stream", {"type": "string", "enum": ["stdout", "stderr"]}, "Only this stream."),
            Param("attempt", whole(0), "Only of this attempt."),
            Param("since", NUMBER, "Only what was printed since, in unix seconds."),
            Param("tail", whole(1, 10_000), "The last so many lines; not with follow."),
            Param("format", {"type": "string", "enum": ["json", "text"]}, "text: as printed."),
        ),
        refusals={404: "run not found", 422: "invalid cursor, or another parameter"},
    ),
    ("GET", "/runs/{run_id}/graph"): Operation(
        "Read what the flow of a run looks like",
        json_of(_GRAPH),
        refusals={404: "run not found, or graph not known"},
    ),
}
