"""Messages as JSON values that name their types, and back: so that a recorded one can be sent again."""

from __future__ import annotations

import base64
import dataclasses
import math
from collections.abc import Mapping
from enum import Enum
from importlib import import_module
from typing import Any, Final

import msgspec

from pyoco_server.kernel import KernelError

_TAGS: Final = frozenset({"type", "enum", "float", "bytes", "tuple", "set", "pairs", "opaque"})
# Held by messages, and nobody else's business.
_SECRETS: Final = frozenset({"api_key", "password", "pepper", "secret", "token"})
_HIDDEN: Final = "(left out)"


class NotReplayable(KernelError):
    """A recorded message that cannot be made again; the text says which and why."""


def to_value(thing: object) -> Any:  # noqa: PLR0911 - one for each kind of value
    """A message, or a part of one, as JSON values.

    What has no text (a reference, an event, a stream) is kept as its description only. The values of fields
    that are called like secrets are left out.
    """
    match thing:
        case Enum():
            return {"enum": _name(type(thing)), "name": thing.name}
        case float() if not math.isfinite(thing):
            return {"float": str(thing)}
        case None | bool() | int() | float() | str():
            return thing
        case bytes() | bytearray() | memoryview():
            return {"bytes": base64.b64encode(thing).decode()}
        case list():
            return [to_value(each) for each in thing]
        case tuple():
            return {"tuple": [to_value(each) for each in thing]}
        case set() | frozenset():
            return {"set": sorted((to_value(each) for each in thing), key=str)}
        case dict() if all(isinstance(key, str) for key in thing) and not _TAGS & thing.keys():
            return {key: to_value(value) for key, value in thing.items()}
        case Mapping():
            return {"pairs": [[to_value(key), to_value(value)] for key, value in thing.items()]}
        case _:
            return _fields_value(thing)


def from_value(value: Any) -> object:  # noqa: PLR0911 - one for each kind of value
    """What `to_value` made the value of. It imports the modules of the types that are named.

    Raises:
        NotReplayable: A type is not there any more or takes other fields, or a part has no text.
    """
    match value:
        case list():
            return [from_value(each) for each in value]
        case {"float": text}:
            return float(text)
        case {"enum": name, "name": member}:
            return _found(f"{name}.{member}")
        case {"bytes": text}:
            return base64.b64decode(text)
        case {"tuple": list(items)}:
            return tuple(from_value(each) for each in items)
        case {"set": list(items)}:
            return frozenset(from_value(each) for each in items)
        case {"pairs": list(pairs)}:
            return {from_value(key): from_value(each) for key, each in pairs}
        case {"opaque": name}:
            raise NotReplayable(f"a message holds a {name}, which has no text")
        case {"type": name, "fields": dict(fields)}:
            return _made(name, {key: from_value(each) for key, each in fields.items()})
        case dict():
            return {key: from_value(each) for key, each in value.items()}
        case _:
            return value


def _fields_value(thing: object) -> Any:
    names = _field_names(thing)
    if names is None:
        return {"opaque": type(thing).__qualname__}
    fields = {
        name: _HIDDEN if name in _SECRETS else to_value(getattr(thing, name)) for name in names
    }
    return {"type": _name(type(thing)), "fields": fields}


def _field_names(thing: object) -> tuple[str, ...] | None:
    if isinstance(thing, msgspec.Struct):
        return thing.__struct_fields__
    if dataclasses.is_dataclass(thing) and not isinstance(thing, type):
        return tuple(field.name for field in dataclasses.fields(thing) if field.init)
    return None


def _name(kind: type) -> str:
    return f"{kind.__module__}:{kind.__qualname__}"


def _found(name: str) -> Any:
    module, _, path = name.partition(":")
    try:
        thing: Any = import_module(module)
        for part in path.split("."):
            thing = getattr(thing, part)
    except (ImportError, AttributeError, ValueError) as error:
        raise NotReplayable(f"there is no {name}: {error}") from None
    return thing


def _made(name: str, fields: dict[str, object]) -> object:
    kind = _found(name)
    if not (
        isinstance(kind, type)
        and (dataclasses.is_dataclass(kind) or issubclass(kind, msgspec.Struct))
    ):
        raise NotReplayable(f"{name} is no type of messages")
    try:
        return kind(**fields)
    except (TypeError, ValueError) as error:
        raise NotReplayable(f"{name} cannot be made of what was recorded: {error}") from None
