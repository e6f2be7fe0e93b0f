"""What queries and bodies are made of; their names, types and texts are those of the API description."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, TypeAlias

import msgspec
from msgspec import Meta

from pyoco_server.model.errors import ErrorId


def says(text: str, **schema: Any) -> Meta:
    """What the API description says of a field, and what of its JSON schema its type does not say."""
    return Meta(description=text, extra_json_schema=schema or None)


def shaped(**schema: Any) -> Meta:
    """What of the JSON schema of a field its type does not say."""
    return Meta(extra_json_schema=schema)


def number(text: str, **schema: Any) -> Meta:
    """Of a field that takes a number, a text that is one, or what says that it is not set."""
    as_text = {"type": "string", "format": "number-text"}
    return says(text, anyOf=[schema, as_text, {"type": "null"}])


def whole(least: int, most: int) -> dict[str, Any]:
    """A whole number, as JSON schema; also of a field that is a float, for msgspec writes the type over."""
    return {"type": "integer", "multipleOf": 1, "minimum": least, "maximum": most}


class Query(msgspec.Struct, frozen=True, kw_only=True):
    """The parameters of a call; this one of those that take none.

    A field is a truth value, a number, a text, a word of an enumeration, or a tuple of words, which may be
    repeated or hold commas. Each has a default, for what is absent or empty; but no number is empty.
    """

    refusal: ClassVar[str | None] = None
    """The contract's text for a query that cannot be used; without one the parameter is named."""
    error_id: ClassVar[ErrorId] = ErrorId.INVALID_INPUT


class JsonBody(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The JSON object that a call sends."""

    refusal: ClassVar[str | None] = None
    """The contract's text for a body that cannot be used; without one it says what is wrong."""
    error_id: ClassVar[ErrorId] = ErrorId.INVALID_INPUT

    @classmethod
    def json_schema(cls, schema: dict[str, Any]) -> dict[str, Any]:
        """Its JSON schema, from that of its fields; to be overridden where they do not say it all."""
        return schema


class NoFields(JsonBody):
    """The body of a call that takes none."""


class FormBody(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The parts of a multipart body; those of bytes are files."""


EventCursor: TypeAlias = Annotated[str, says("Go on behind this event.", format="event-cursor")]
"""A place among events; "" for their beginning."""
