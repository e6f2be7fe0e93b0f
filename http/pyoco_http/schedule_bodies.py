"""What calls about schedules send, described: one of what says when, which no struct says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeAlias

from pyoco_server.model.limits import (
    MAX_ATTEMPTS,
    MAX_BACKOFF_SECONDS,
    MAX_CPU_SECONDS,
    MAX_MEMORY_MB,
    MAX_TIMEOUT_SECONDS,
)
from pyoco_server.model.schedules.schedule import (
    MAX_CATCH_UP,
    MAX_LABELS,
    MAX_MOMENTS,
    MAX_TEXT,
    CatchUp,
    Overlap,
)
from pyoco_server.model.schedules.ticks import LAST_MOMENT
from pyoco_server.model.timing import MAX_AHEAD_SECONDS

Schema: TypeAlias = dict[str, Any]

_TEXT: Final[Schema] = {"type": "string"}
_OBJECT: Final[Schema] = {"type": "object"}


def _whole_number(least: int, most: int | None = None) -> Schema:
    schema: Schema = {"type": "integer", "minimum": least}
    return schema if most is None else schema | {"maximum": most}


def _closed(required: Mapping[str, Schema], **optional: Schema) -> Schema:
    return {
        "type": "object",
        "properties": {**required, **optional},
        "required": list(required),
        "additionalProperties": False,
    }


def _json(schema: Schema) -> Mapping[str, Schema]:
    return {"application/json": schema}


_NULL: Final[Schema] = {"type": "null"}
_MOMENT: Final[Schema] = {
    "type": "integer",
    "minimum": 0,
    "maximum": LAST_MOMENT - 1,
    "description": "Unix seconds; or a text: a date and time with its offset, or of the schedule's zone.",
}


def _or_null(schema: Schema) -> Schema:
    return {"anyOf": [schema, _NULL]}


def _seconds(most: float, **least: float) -> Schema:
    return _or_null({"type": "number", "maximum": most, **least})


_FLOW: Final[Schema] = {"type": "string", "pattern": "^[A-Za-z0-9_.-]{1,200}$"}
_WHEN: Final[dict[str, Schema]] = {
    "cron": {"type": "string", "format": "crontab"},
    "every_sec": _whole_number(1, 366 * 86_400),
    "rrule": {"type": "string", "format": "recurrence-rule"},
    "at": {"type": "array", "items": _MOMENT, "minItems": 1, "maxItems": MAX_MOMENTS},
}
_COMMON: Final[dict[str, Schema]] = {
    "name": _or_null({"type": "string", "maxLength": MAX_TEXT}),
    "tag": _or_null({"type": "string", "pattern": "^[A-Za-z0-9_-]{0,200}$"}),
    "tags": _or_null({"type": "array", "items": _TEXT}),
    "params": _or_null(_OBJECT),
    "workflow_yaml": _or_null({"type": "string", "format": "flow-yaml"}),
    "timezone": _or_null({"type": "string", "format": "time-zone"}),
    "jitter_sec": _seconds(86_400, minimum=0),
    "start_at": _or_null(_MOMENT),
    "end_at": _or_null(_MOMENT),
    "overlap": _or_null({"type": "string", "enum": [*Overlap]}),
    "catch_up": _or_null({"type": "string", "enum": [*CatchUp]}),
    "catch_up_limit": _or_null(_whole_number(1, MAX_CATCH_UP)),
    "timeout_sec": _seconds(MAX_TIMEOUT_SECONDS, exclusiveMinimum=0),
    "max_attempts": _or_null(_whole_number(1, MAX_ATTEMPTS)),
    "retry_backoff_sec": _seconds(MAX_BACKOFF_SECONDS, minimum=0),
    "memory_mb": _or_null(_whole_number(1, MAX_MEMORY_MB)),
    "cpu_sec": _seconds(MAX_CPU_SECONDS, exclusiveMinimum=0),
    "queue_ttl_sec": _seconds(MAX_AHEAD_SECONDS, exclusiveMinimum=0),
    "expected_start_within_sec": _seconds(MAX_AHEAD_SECONDS, exclusiveMinimum=0),
    "expected_end_within_sec": _seconds(MAX_AHEAD_SECONDS, exclusiveMinimum=0),
    "labels": _or_null(
        {
            "type": "object",
            "propertyNames": {"pattern": "^[A-Za-z0-9_./-]{1,63}$"},
            "additionalProperties": {"type": "string", "maxLength": MAX_TEXT},
            "maxProperties": MAX_LABELS,
        }
    ),
    "paused": _or_null({"type": "boolean"}),
}


def _whole(**further: Schema) -> Schema:
    """A schedule with one of what says when."""
    return {
        "anyOf": [
            _closed({"flow_name": _FLOW, name: schema}, **_COMMON, **further)
            for name, schema in _WHEN.items()
        ]
    }


_VERSION: Final[Schema] = _or_null(_whole_number(1))
NEW_SCHEDULE: Final = _json(
    _whole(schedule_id=_or_null({"type": "string", "pattern": "^[A-Za-z0-9_-]{1,64}$"}))
)
REPLACED_SCHEDULE: Final = _json(_whole(version=_VERSION))
CHANGED_SCHEDULE: Final = _json(
    {
        "anyOf": [
            _closed({}, **{name: schema}, **_COMMON, flow_name=_FLOW, version=_VERSION)
            for name, schema in _WHEN.items()
        ]
    }
)
PREVIEWED_SCHEDULE: Final = _json(_whole(count=_whole_number(1, 100)))
BACKFILL: Final = _json(
    _closed(
        {"from": _MOMENT, "to": _MOMENT}, limit=_whole_number(1, 1000), dry_run={"type": "boolean"}
    )
)
