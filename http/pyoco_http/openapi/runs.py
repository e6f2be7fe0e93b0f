"""The routes below ``/runs``, described."""

from __future__ import annotations

from typing import Final

from pyoco_http.lists import MOST_STEPS
from pyoco_http.openapi.operation import (
    BYTES,
    EMPTY,
    FLAG,
    NUMBER,
    OBJECT,
    PRINTABLE,
    RANGE,
    TEXT,
    Operation,
    Operations,
    Param,
    Schema,
    closed,
    fields,
    file_of,
    json_of,
    listed,
    nullable,
    whole,
)
from pyoco_http.submissions import MAX_BATCH_RUNS
from pyoco_server.model.artifact import Artifact, RefusedArtifact
from pyoco_server.model.limits import MAX_ATTEMPTS, MAX_BACKOFF_SECONDS, MAX_TIMEOUT_SECONDS
from pyoco_server.model.result import Result
from pyoco_server.model.run import RunStatus, TaskRecord

_STATUS: Final[Schema] = {"type": "string", "enum": [status.value for status in RunStatus]}
_FEW_STATUSES: Final[Schema] = {"type": "string", "enum": [*RunStatus, ""]}
_TIME: Final[Schema] = nullable("number")
NULLABLE_TEXT: Final[Schema] = nullable("string")
_TAG: Final[Schema] = {"type": "string", "pattern": r"^\s*[A-Za-z0-9_-]{0,200}\s*$"}
_FLOW: Final[Schema] = {"type": "string", "pattern": "[A-Za-z0-9]"}
_LIMITS: Final[dict[str, Schema]] = {
    "timeout_sec": {"type": "number", "exclusiveMinimum": 0, "maximum": MAX_TIMEOUT_SECONDS},
    "max_attempts": whole(1, MAX_ATTEMPTS),
    "retry_backoff_sec": {"type": "number", "minimum": 0, "maximum": MAX_BACKOFF_SECONDS},
}


def _limits(*unset: Schema) -> dict[str, Schema]:
    """The limits of a run, or what says that one is not set: the empty text, and others."""
    return {name: {"anyOf": [limit, EMPTY, *unset]} for name, limit in _LIMITS.items()}


_SUBMISSION: Final = closed(
    {"flow_name": _FLOW}, params=OBJECT, tag=_TAG, tags=listed(TEXT), **_limits({"type": "null"})
)

_ACCEPTED: Final = fields({"run_id": TEXT, "status": _STATUS})
_SNAPSHOT_FIELDS: Final[dict[str, Schema]] = {
    "run_id": TEXT,
    "flow_name": TEXT,
    "status": _STATUS,
    "tag": NULLABLE_TEXT,
    "tags": listed(TEXT),
    "tenant_id": NULLABLE_TEXT,
    "api_key_id": NULLABLE_TEXT,
    "workflow_yaml_sha256": NULLABLE_TEXT,
    "workflow_yaml_bytes": nullable("integer"),
    "params": OBJECT,
    "tasks": OBJECT,
    "start_time": _TIME,
    "end_time": _TIME,
    "heartbeat_at": _TIME,
    "updated_at": _TIME,
    "error": NULLABLE_TEXT,
    "worker_id": NULLABLE_TEXT,
    "cancel_requested_at": _TIME,
    "cancel_requested_by": NULLABLE_TEXT,
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
        "tag": NULLABLE_TEXT,
        "tags": listed(TEXT),
        "tenant_id": NULLABLE_TEXT,
        "api_key_id": NULLABLE_TEXT,
        "status": _STATUS,
        "updated_at": _TIME,
        "heartbeat_at": _TIME,
        "worker_id": NULLABLE_TEXT,
        "error": NULLABLE_TEXT,
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
        fields({"items": listed(_ITEM), "next_cursor": NULLABLE_TEXT}),
    ]
}
INCLUDE: Final = Param(
    "include", TEXT, "records, task_records, full or all: with task records; repeatable."
)
_KEY: Final = Param(
    "Idempotency-Key",
    {"type": "string", "format": "idempotency-key"},
    "All submissions with one key are one run, for a day.",
    "header",
)
FILTER: Final = (
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
RUNS: Final[Operations] = {
    ("GET", "/runs"): Operation(
        "List runs, the newest change first",
        json_of(_PAGE),
        (
            *FILTER,
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
        "Count runs",
        json_of(_COUNTS),
        (
            *FILTER,
            Param(
                "steps",
                whole(0, MOST_STEPS, 0),
                "Into how many equal steps the time behind submitted_after is divided, which has to be given "
                "then: `submissions` says how many runs of each status were submitted in each.",
            ),
        ),
        refusals={422: "invalid list query"},
    ),
    ("POST", "/runs"): Operation(
        "Submit a run of a flow that the workers know",
        json_of(_ACCEPTED),
        (_KEY,),
        json_of(_SUBMISSION),
        {422: "invalid request body, invalid tag, or idempotency key reused"},
        doc="200 only after the snapshot is stored and the job is queued.",
    ),
    ("POST", "/runs/yaml"): Operation(
        "Submit a run that brings its flow.yaml",
        json_of(_ACCEPTED),
        (_KEY,),
        {
            "multipart/form-data": closed(
                {
                    "workflow": file_of("flow-yaml"),
                    "flow_name": _FLOW,
                },
                tag=_TAG,
                params={
                    "type": "string",
                    "format": "json-object",
                    "contentMediaType": "application/json",
                },
                **_limits(),
            )
        },
        {422: "invalid workflow yaml, invalid tag, missing flow_name, or idempotency key reused"},
        files={"workflow": "flow.yaml"},
        doc="The params go over the file's `flow.defaults`.",
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
            closed(
                {
                    "runs": {
                        "type": "array",
                        "items": {
                            "description": "As the body of POST /runs, with workflow_yaml (text) and "
                            "idempotency_key; a wrong one is refused by itself."
                        },
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
        "Read a run", json_of(_SNAPSHOT), (INCLUDE,), refusals={404: "run not found"}
    ),
    ("GET", "/runs/{run_id}/tasks"): Operation(
        "Read the tasks of a run", json_of(_TASKS), refusals={404: "run not found"}
    ),
    ("POST", "/runs/{run_id}/cancel"): Operation(
        "Cancel a run",
        json_of(_SNAPSHOT),
        body=json_of({"description": "An object with reason and requested_by, both texts."}),
        body_required=False,
        refusals={404: "run not found"},
        doc="A run that has ended is returned as it is. A body that is not understood is ignored.",
    ),
    ("POST", "/runs/{run_id}/retry"): Operation(
        "Submit a run that has ended again, as a new run",
        json_of(fields({"run_id": TEXT, "status": _STATUS, "retry_of": TEXT})),
        (_KEY,),
        refusals={
            404: "run not found",
            409: "run cannot be submitted again",
            422: "idempotency key reused, or invalid idempotency key",
        },
    ),
    ("GET", "/runs/{run_id}/artifacts"): Operation(
        "List the files that a run saved",
        json_of(
            fields(
                {
                    "run_id": TEXT,
                    "artifacts": listed(Artifact),
                    "artifacts_refused": listed(RefusedArtifact),
                }
            )
        ),
        refusals={404: "run not found"},
    ),
    ("GET", "/runs/{run_id}/artifacts/{name}"): Operation(
        "Download a file that a run saved, or a part of it",
        BYTES,
        (RANGE,),
        refusals={
            206: "the part that was asked for",
            404: "run not found, or artifact not found",
            416: "range not satisfiable",
        },
        bodies={206: BYTES},
        doc="The name may hold slashes.",
    ),
    ("GET", "/runs/{run_id}/results"): Operation(
        "List what the tasks of a run returned",
        json_of(fields({"run_id": TEXT, "results": listed(Result)})),
        refusals={404: "run not found"},
        doc="Of tasks that succeeded, in the order of the run's tasks.",
    ),
    ("GET", "/runs/{run_id}/results/{task}"): Operation(
        "Read what a task returned, as JSON",
        json_of({"description": "Any JSON value."}),
        (RANGE,),
        refusals={
            206: "the part that was asked for, of a result that is kept beside the snapshot",
            404: "run not found, or result not found",
            416: "range not satisfiable",
        },
        bodies={206: BYTES},
        doc="`Pyoco-Result-Cut` says why it is not all that the task returned. The name may hold slashes.",
    ),
}
