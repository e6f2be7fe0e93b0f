"""Writes the types of what the Python client gives, from the structs that the routes answer with.

``uv run poe client`` writes them; `test_answer_types.py` says whether they are current.
"""

from __future__ import annotations

import keyword
import subprocess
from collections.abc import Iterator
from typing import Any, Final

from msgspec import UNSET, inspect, structs

from contract.unasync import CLIENT
from http_api.answers import known_operations
from pyoco_http.operation import Operation
from pyoco_server.api.base import Query
from pyoco_server.api.runs import RunsQuery
from pyoco_server.api.schedules import ScheduleFields, ScheduleUpdate
from pyoco_server.model.event import Event, LogChunk, OutputTruncated

MODULE: Final = CLIENT / "answers.py"

_HEAD: Final = '''\
# Written by tests/contract/answer_types.py from what routes answer with; `uv run poe client` writes it.
"""What the client gives: each a plain dict, with the fields of the struct that the gateway answers with.

What it takes by name is here as well. A field that is `NotRequired` is not always there. Fields and words may
come with later versions.
"""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypeAlias, TypedDict
'''
_PLAIN: Final[dict[type[inspect.Type], str]] = {
    inspect.AnyType: "Any",
    inspect.BoolType: "bool",
    inspect.FloatType: "float",
    inspect.IntType: "int",
    inspect.NoneType: "None",
    inspect.StrType: "str",
}
_ARGUMENTS: Final = (RunsQuery, ScheduleFields, ScheduleUpdate)
"""Queries and bodies whose fields a method takes by name."""

_UNIONS: Final = {"EventDict": Event, "OutputDict": LogChunk | OutputTruncated}
"""What has a name of its own."""


def answer_kinds(operation: Operation) -> tuple[Any, ...]:
    """What a route answers with, as types; nothing for a text, a file or any JSON."""
    told = operation.answer.get("application/json", ())
    kinds = told if isinstance(told, tuple) else (told,)
    return tuple(kind for kind in kinds if not isinstance(kind, dict))


def event_kinds(operation: Operation) -> tuple[Any, ...]:
    """The data of the events that a route streams, as types."""
    return tuple(operation.answer.get("text/event-stream", {}).values())


def name_of(kind: Any) -> str:
    """What the client calls what a route answers with."""
    return written(inspect.type_info(kind))


def module() -> str:
    """Return the text of the module.

    Raises:
        subprocess.CalledProcessError: ruff cannot read what came of it.
    """
    operations = known_operations().values()
    roots = [k for o in operations for k in (*answer_kinds(o), *event_kinds(o))]
    found = _named(inspect.multi_type_info([*roots, *_ARGUMENTS]))
    unions = [f"{name}: TypeAlias = {name_of(kind)}" for name, kind in _UNIONS.items()]
    text = "\n\n".join([_HEAD, *map(written_out, found), *unions])
    return subprocess.run(
        ["ruff", "format", "--quiet", f"--stdin-filename={MODULE}", "-"],
        input=text,
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def written(kind: inspect.Type) -> str:
    """The type of the JSON that a value of this type is sent as.

    Raises:
        KeyError: None is known.
    """
    match kind:
        case inspect.Metadata():
            text = written(kind.type)
        case inspect.StructType():
            text = f"{kind.cls.__name__}Dict"
        case inspect.EnumType():
            text = f"{kind.cls.__name__}Word"
        case inspect.LiteralType(values):
            text = f"Literal[{', '.join(map(repr, values))}]"
        case inspect.UnionType(types):
            text = " | ".join(dict.fromkeys(map(written, types)))
        case inspect.DictType(key, value):
            text = f"dict[{written(key)}, {written(value)}]"
        case inspect.ListType(item) | inspect.VarTupleType(item):
            text = f"list[{written(item)}]"
        case _:
            text = _PLAIN[type(kind)]
    return text


def written_out(kind: inspect.Type) -> str:
    """The definition of the type that a struct or an enumeration is sent as."""
    name = written(kind)
    if isinstance(kind, inspect.EnumType):
        words = ", ".join(repr(member.value) for member in kind.cls)
        return f"{name}: TypeAlias = Literal[{words}]"
    assert isinstance(kind, inspect.StructType)
    fields = dict(_fields(kind))
    if any(map(keyword.iskeyword, fields)):
        items = ", ".join(f"{field!r}: {told!r}" for field, told in fields.items())
        return f"{name} = TypedDict({name!r}, {{{items}}})"
    lines = "".join(f"    {field}: {told}\n" for field, told in fields.items())
    return f'class {name}(TypedDict):\n    """{kind.cls.__doc__}"""\n\n{lines}'


def _fields(kind: inspect.StructType) -> Iterator[tuple[str, str]]:
    if kind.tag is not None:
        yield str(kind.tag_field), f"Literal[{kind.tag!r}]"
    # As in the API description: all fields of an answer are written, but for those that are not set.
    omits = kind.cls.__struct_config__.omit_defaults or kind.cls in _ARGUMENTS
    defaults = {field.name: field.default for field in structs.fields(kind.cls)}
    for field in kind.fields:
        always = field.required or not (omits or defaults[field.name] is UNSET)
        told = _asked(field.type) if issubclass(kind.cls, Query) else written(field.type)
        yield field.encode_name, told if always else f"NotRequired[{told}]"


def _asked(kind: inspect.Type) -> str:
    """How a field of a query is given: its words as a text, and None for what does not matter."""
    if isinstance(kind, inspect.Metadata):
        return _asked(kind.type)
    told = "str" if isinstance(kind, inspect.VarTupleType) else written(kind)
    return told if told.endswith("| None") else f"{told} | None"


def _named(kinds: Any) -> list[Any]:
    """The structs and enumerations in these types, each once, by name."""
    seen: set[int] = set()
    found: dict[str, Any] = {}
    left = list(kinds)
    while left:
        kind = left.pop()
        if isinstance(kind, tuple):
            left += kind
        elif isinstance(kind, inspect.Type | inspect.Field) and id(kind) not in seen:
            seen.add(id(kind))
            if isinstance(kind, inspect.StructType | inspect.EnumType):
                found[written(kind)] = kind
            left += [getattr(kind, name) for name in kind.__struct_fields__]
    return [found[name] for name in sorted(found)]


if __name__ == "__main__":
    MODULE.write_text(module())
