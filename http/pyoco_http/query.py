"""How the texts of a query or a form are read: one rule for each type, whichever route asks.

=================  ======================================================================================
a truth value      ``true``, ``1``, ``yes``, ``on``, or ``false``, ``0``, ``no``, ``off``, in either case
a whole number     digits, in its range
a number, a time   finite, in its range; times are unix seconds
a text             of a query: no control characters or line ends; no longer than it may be
a word             one of its enumeration, in either case
several words      the parameter may be repeated, or hold commas
=================  ======================================================================================

What is empty is as good as absent, but for numbers, which are refused. So is what nobody asks for, and what
is given twice though it is taken once.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, Final, TypeVar, cast
from urllib.parse import parse_qsl

import msgspec
from msgspec import inspect

from pyoco_http.problems import Problem, unknown_name
from pyoco_server.api.base import Query

Q = TypeVar("Q", bound=Query)

FLAGS: Final[Mapping[str, bool]] = {
    **dict.fromkeys(("true", "1", "yes", "on"), True),
    **dict.fromkeys(("false", "0", "no", "off"), False),
}
_DIGITS: Final = 18
_PLAIN: Final = re.compile(r"[-+.0-9eE]+")
# What controls a terminal or ends a line: spaces of other scripts, and what joins signs, are part of names.
_CONTROLS: Final = frozenset({"Cc", "Zl", "Zp"})


class UnusableText(ValueError):
    """A text that cannot be used.

    Args:
        name: Which.
        takes: What would be right.
    """

    def __init__(self, name: str, takes: str) -> None:
        super().__init__(f"{name} {takes}")
        self.name = name
        self.takes = takes


@dataclass(frozen=True, slots=True)
class Field:
    """How one text is read.

    Attributes:
        kind: Its type.
        read: Gives its value; raises ``ValueError`` with what it takes.
        many: Whether there may be several.
        number: Whether it is a number.
    """

    kind: inspect.Type
    read: Callable[[str], Any]
    many: bool = False
    number: bool = False


@lru_cache
def fields_of(kind: type[msgspec.Struct]) -> Mapping[str, Field]:
    """How each text of a query or a form is read, by its name; without files."""
    told = inspect.type_info(kind)
    assert isinstance(told, inspect.StructType)
    plain = {field.name: plain_type(field.type) for field in told.fields}
    printable = issubclass(kind, Query)
    return {
        name: _field(found, printable=printable)
        for name, found in plain.items()
        if not isinstance(found, inspect.BytesType)
    }


def plain_type(kind: inspect.Type) -> inspect.Type:
    """A type without what is said of it, and without its null."""
    match kind:
        case inspect.Metadata(type=inner):
            return plain_type(inner)
        case inspect.UnionType(types=types):
            [inner] = [each for each in types if not isinstance(each, inspect.NoneType)]
            return plain_type(inner)
        case _:
            return kind


def _field(kind: inspect.Type, *, printable: bool) -> Field:
    match kind:
        case inspect.BoolType():
            return Field(kind, partial(_word, FLAGS, "true or false"))
        case inspect.IntType(ge=least, le=most):
            return Field(kind, partial(_whole, least or 0, most), number=True)
        case inspect.FloatType(ge=least, le=most):
            return Field(kind, partial(_number, least, most), number=True)
        case inspect.EnumType() | inspect.LiteralType():
            words = {str(word): word for word in words_of(kind)}
            found = {text.lower(): word for text, word in words.items()}
            return Field(kind, partial(_word, found, " or ".join(words)))
        case inspect.VarTupleType(item_type=item):
            one = _field(plain_type(item), printable=printable)
            return Field(one.kind, one.read, many=True)
        case _:
            most = getattr(kind, "max_length", None)
            return Field(kind, partial(_text, most, printable=printable))


def words_of(kind: inspect.EnumType | inspect.LiteralType) -> tuple[Any, ...]:
    """The words of an enumeration, in their order."""
    return tuple(kind.cls) if isinstance(kind, inspect.EnumType) else kind.values


def read_fields(kind: type[msgspec.Struct], pairs: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """Read texts by name; those that are absent or empty are left out.

    Raises:
        UnusableText: One cannot be used.
        KeyError: One has a name that the struct does not have.
    """
    fields = fields_of(kind)
    given: dict[str, list[str]] = {}
    for name, text in pairs:
        given.setdefault(name, []).append(text)
    values = {}
    for name, texts in given.items():
        field = fields[name]
        words = [word.strip() for text in texts for word in text.split(",")]
        if not field.many and len(texts) > 1:
            raise UnusableText(name, "takes one value")
        try:
            found = [field.read(t) for t in (words if field.many else texts) if t or field.number]
        except ValueError as error:
            raise UnusableText(name, f"takes {error}") from None
        if found:
            values[name] = tuple(dict.fromkeys(found)) if field.many else found[0]
    return values


def read_query(kind: type[Q], raw: bytes) -> Q:
    """Read the query of a call.

    Raises:
        Problem: A parameter is not known or cannot be used.
    """
    if not raw:
        return cast(Q, _nothing(kind))
    pairs = parse_qsl(raw.decode("latin-1"), keep_blank_values=True, errors="surrogateescape")
    for name, text in pairs:
        # Replaced by what stands for what cannot be read, it would be looked for in vain.
        try:
            (name + text).encode()
        except UnicodeEncodeError:
            known = name if name in fields_of(kind) else "query"
            raise refused(kind, known, "takes UTF-8") from None
    try:
        return kind(**read_fields(kind, pairs))
    except UnusableText as error:
        raise refused(kind, error.name, error.takes) from None
    except KeyError as error:
        name = str(error.args[0])
        raise unknown_name(
            "parameter", name, fields_of(kind), kind.refusal, kind.error_id
        ) from None


@lru_cache
def _nothing(kind: type[Query]) -> Query:
    return kind()


def refused(kind: type[Query], name: str, takes: str) -> Problem:
    """The answer to a parameter that cannot be used, which says what it ``takes …``."""
    if kind.refusal is None:
        return Problem(422, f"invalid {name}", kind.error_id, field=name, reason=takes)
    return Problem(422, kind.refusal, kind.error_id, field=name, reason=f"{name} {takes}")


def _whole(least: int, most: int | None, text: str) -> int:
    if text.isascii() and text.isdigit() and len(text) <= _DIGITS:
        number = int(text)
        if least <= number and (most is None or number <= most):
            return number
    raise ValueError(f"a whole number, {least}{' or more' if most is None else f' to {most}'}")


def _number(least: float | None, most: float | None, text: str) -> float:
    value = math.nan
    with suppress(ValueError):
        # Python takes more: "1_0", " 1", digits of other scripts.
        value = float(text) if _PLAIN.fullmatch(text) else value
    low, high = -math.inf if least is None else least, math.inf if most is None else most
    if math.isfinite(value) and low <= value <= high:
        return value
    raise ValueError("a number" if high == math.inf else f"a number from {low:g} to {high:g}")


def _word(words: Mapping[str, Any], takes: str, text: str) -> Any:
    found = words.get(text.strip().lower())
    if found is None:
        raise ValueError(takes)
    return found


def _text(most: int | None, text: str, *, printable: bool) -> str:
    if printable and not _CONTROLS.isdisjoint(map(unicodedata.category, text)):
        raise ValueError("no control characters or line ends")
    if most is not None and len(text) > most:
        raise ValueError(f"at most {most} characters")
    return text
