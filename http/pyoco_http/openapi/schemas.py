"""Schemas of the structs that are sent, and of the texts that a query or a form is made of."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import msgspec
from msgspec import UNSET, inspect

from pyoco_http.operation import Operation
from pyoco_http.query import FLAGS, Field, fields_of, words_of
from pyoco_server.api.base import FormBody, JsonBody

_TEMPLATE: Final = "#/components/schemas/{name}"
_FORM: Final = "multipart/form-data"
_EVENTS: Final = "text/event-stream"
_NONE: Final = {"type": "string", "maxLength": 0}


class Schemas:
    """The schemas of all operations.

    Attributes:
        components: Those of the structs and enumerations, by name.
    """

    def __init__(self, operations: Iterable[Operation]) -> None:
        every = list(operations)
        answers = dict.fromkeys(_types(c for o in every for c in (o.answer, *o.bodies.values())))
        bodies = dict.fromkeys(_types(operation.body for operation in every))
        types = list(answers | bodies)
        schemas, components = msgspec.json.schema_components(types, ref_template=_TEMPLATE)
        self._schemas = dict(zip(types, schemas, strict=True))
        self.components: dict[str, Any] = components
        # A struct is written with all of its fields.
        for struct in _structs(inspect.multi_type_info(list(answers))):
            found = components.get(struct.cls.__name__)
            if found is not None and not struct.cls.__struct_config__.omit_defaults:
                fields = msgspec.structs.fields(struct.cls)
                found["required"] = [f.encode_name for f in fields if f.default is not UNSET]
        for kind in bodies:
            if isinstance(kind, type) and issubclass(kind, FormBody):
                self._make_form(kind)
            elif isinstance(kind, type) and issubclass(kind, JsonBody):
                components[kind.__name__] = kind.json_schema(components[kind.__name__])

    def of(self, media_type: str, told: Any) -> dict[str, Any]:
        """The schema of what an operation says that it sends or takes."""
        if media_type == _EVENTS:
            return {"oneOf": [self._event(name, data) for name, data in told.items()]}
        if isinstance(told, tuple):
            return {"anyOf": [self._schemas[kind] for kind in told]}
        return dict(told) if isinstance(told, Mapping) else self._schemas[told]

    def _event(self, name: str, data: Any) -> dict[str, Any]:
        """A server-sent event; its data is JSON."""
        told = {
            "type": "string",
            "contentMediaType": "application/json",
            "contentSchema": self._schemas[data],
        }
        return {
            "type": "object",
            "properties": {"event": {"const": name}, "data": told, "id": {"type": "string"}},
            "required": ["event", "data"],
        }

    def _make_form(self, kind: type[FormBody]) -> None:
        """A form's parts are texts and files, none of them null."""
        texts = fields_of(kind)
        properties = self.components[kind.__name__]["properties"]
        for name, told in properties.items():
            if name in texts:
                properties[name] = parameter(texts[name], told)["schema"]
            else:
                told.pop("contentEncoding")
                told["contentMediaType"] = "application/octet-stream"

    @staticmethod
    def properties(kind: type[msgspec.Struct]) -> dict[str, Any]:
        """What msgspec says of the fields of a struct, by name."""
        _, components = msgspec.json.schema_components([kind])
        properties: dict[str, Any] = components[kind.__name__]["properties"]
        return properties


def parameter(field: Field, told: Mapping[str, Any]) -> dict[str, Any]:
    """Describe a text of a query or a form by how it is read, and by what its struct says of it."""
    match field.kind:
        case inspect.BoolType():
            schema: dict[str, Any] = {"type": "string", "enum": [*FLAGS, ""]}
        case inspect.EnumType() | inspect.LiteralType():
            schema = {"type": "string", "enum": [*map(str, words_of(field.kind)), ""]}
        case inspect.IntType() | inspect.FloatType():
            schema = _without_null(told)
        case inspect.StrType() if not told.keys() & {"format", "pattern"}:
            schema = {"format": "printable"} | _without_null(told)
        case _:
            schema = _without_null(told)
    description = schema.pop("description", told.get("description"))
    default = schema.pop("default", None)
    if field.many:
        schema = {"type": "array", "items": schema}
        description = f"{description} Repeatable, or with commas."
    elif field.number and default is not None:
        schema["default"] = default
    return {"schema": schema} | ({"description": description} if description else {})


def _without_null(told: Mapping[str, Any]) -> dict[str, Any]:
    schema = dict(told)
    kinds = [kind for kind in schema.pop("anyOf", ()) if kind != {"type": "null"}]
    if len(kinds) > 1:
        schema["anyOf"] = kinds
    elif kinds:
        schema.update(kinds[0])
    return schema


def _types(contents: Iterable[Mapping[str, Any]]) -> Iterator[Any]:
    for content in contents:
        for media_type, told in content.items():
            if media_type == _EVENTS:
                yield from told.values()
            elif isinstance(told, tuple):
                yield from told
            elif not isinstance(told, Mapping):
                yield told


def _structs(kinds: Iterable[Any]) -> Iterator[inspect.StructType]:
    """The structs in these types, each once."""
    seen: set[int] = set()
    left = list(kinds)
    while left:
        kind = left.pop()
        if isinstance(kind, tuple):
            left += kind
        elif isinstance(kind, inspect.Type | inspect.Field) and id(kind) not in seen:
            seen.add(id(kind))
            if isinstance(kind, inspect.StructType):
                yield kind
            left += [getattr(kind, name) for name in kind.__struct_fields__]
