"""How a route is described. Who may call it and how large its body may be is read off the route itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

Schema: TypeAlias = "dict[str, Any] | type"
"""A JSON schema, or the struct that msgspec makes one of."""

TEXT: Final[Schema] = {"type": "string"}
EMPTY: Final[Schema] = {"type": "string", "maxLength": 0}
NUMBER: Final[Schema] = {"type": "number"}
OBJECT: Final[Schema] = {"type": "object"}
# Query flags are taken in these spellings, and in capitals.
FLAG: Final[Schema] = {
    "type": "string",
    "enum": ["true", "false", "1", "0", "yes", "no", ""],
}
BYTES: Final[Mapping[str, Schema]] = {
    "application/octet-stream": {"type": "string", "format": "binary"}
}
# A server-sent event; the data is JSON.
EVENT: Final[Schema] = {
    "type": "object",
    "properties": {
        "event": {"type": "string"},
        "data": {"type": "string"},
        "id": {"type": "string"},
    },
    "required": ["event", "data"],
}
PRINTABLE: Final[Schema] = {"type": "string", "format": "printable"}


def whole(least: int, most: int | None = None, default: int | None = None) -> Schema:
    """A whole number of a range."""
    schema: dict[str, Any] = {"type": "integer", "minimum": least}
    if most is not None:
        schema["maximum"] = most
    return schema if default is None else {**schema, "default": default}


def nullable(kind: str) -> Schema:
    """A value of a JSON type, or null."""
    return {"type": [kind, "null"]}


def listed(items: Schema) -> Schema:
    """A list."""
    return {"type": "array", "items": items}


def file_of(kind: str) -> Schema:
    """A file part of a form; ``kind`` says of what."""
    return {"type": "string", "contentMediaType": "application/octet-stream", "format": kind}


def fields(required: Mapping[str, Schema], **optional: Schema) -> dict[str, Any]:
    """An object with fields that are always there, and others; more may be added."""
    return {
        "type": "object",
        "properties": {**required, **optional},
        "required": list(required),
    }


def closed(required: Mapping[str, Schema], **optional: Schema) -> dict[str, Any]:
    """An object with no fields but these."""
    return fields(required, **optional) | {"additionalProperties": False}


@dataclass(frozen=True, slots=True)
class Param:
    """A parameter of the query, or a header.

    Attributes:
        name: Its name.
        schema: What it takes.
        doc: What it does.
        place: ``query`` or ``header``.
    """

    name: str
    schema: Schema
    doc: str
    place: str = "query"


RANGE: Final = Param(
    "Range",
    {"type": "string", "format": "byte-range"},
    "One range of bytes; another is ignored.",
    "header",
)


@dataclass(frozen=True, slots=True)
class Operation:
    """What a route takes and gives.

    Attributes:
        summary: What it is for, in a few words.
        answer: The 200: schemas by media type.
        params: Query parameters and headers.
        body: Schemas by media type; empty for a route that reads no body.
        refusals: The details of further answers, by status.
        bodies: What those give that are no problems.
        files: Names for the files of a multipart body, as examples, by field.
        body_required: Whether a call without a body is refused.
        doc: More about it.
    """

    summary: str
    answer: Mapping[str, Schema]
    params: Sequence[Param] = ()
    body: Mapping[str, Schema] = field(default_factory=dict)
    refusals: Mapping[int, str] = field(default_factory=dict)
    bodies: Mapping[int, Mapping[str, Schema]] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    body_required: bool = True
    doc: str = ""


def json_of(schema: Schema) -> Mapping[str, Schema]:
    """A body of JSON."""
    return {"application/json": schema}


Operations: TypeAlias = Mapping[tuple[str, str], Operation]
"""By method and by path, as OpenAPI writes it."""
