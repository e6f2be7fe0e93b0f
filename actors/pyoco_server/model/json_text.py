"""JSON on the wire: strict when written, lenient when read."""

from __future__ import annotations

import json
import math
import re
import reprlib
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final, TypeAlias

import msgspec

from pyoco_server.model.errors import ModelError

JSON: TypeAlias = "bool | int | float | str | list[JSON] | dict[str, JSON] | None"
"""A value that JSON can carry."""

MAX_DEPTH: Final = 64
"""How deep values may be nested: as many levels of params are taken, and of a value that ``json_safe``
meets, the rest being a shortened repr. Deeper ones are read and written, or not, by the room on the stack."""

MAX_VALUES: Final = 100_000
"""How many values ``json_safe`` visits before it settles for shortened reprs."""

MAX_REPR_CHARACTERS: Final = 10_000
"""How much of a repr is kept."""

# Shortened while it is made: the full repr of a structure that shares its parts may be
# exponentially larger than the structure.
_SHORT_REPR: Final = reprlib.Repr()
_SHORT_REPR.maxlevel = 2


class NotJson(ValueError):
    """A value that JSON cannot carry, or that would come out as another one; the text says what."""


class NestedTooDeeply(ValueError):
    """A value of more than ``MAX_DEPTH`` levels of lists and mappings."""

    def __init__(self) -> None:
        super().__init__(f"nested too deeply: at most {MAX_DEPTH} levels of lists and mappings")


class KeyGivenTwice(ValueError):
    """An object of a JSON text has a key twice, of which a reader would see one."""

    def __init__(self, key: str) -> None:
        super().__init__(f"key {key[:80]!r} is given twice in one object")


# Strings, so that what looks like a bracket in one is none; one without an end is looked through once.
_TOKEN: Final = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"?|[][{}]', re.DOTALL)
_CONTAINERS: Final = (dict, list, tuple)
_LEFT_OUT: Final = b'"(nested too deeply)"'
# What is raised for a value that cannot be written.
_REFUSALS: Final = (TypeError, ValueError, OverflowError, RecursionError)


def check_json(value: object) -> None:
    """Make sure that everybody can read and write a value, and that it comes out as it is.

    Raises:
        NotJson: Something in it does not.
        NestedTooDeeply: It has more than ``MAX_DEPTH`` levels.
    """
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        # Each once: a structure that shares its parts has many ways to them.
        containers: dict[int, Any] = {}
        for item in level:
            if isinstance(item, _CONTAINERS):
                containers[id(item)] = item
            elif not _carried(item):
                raise NotJson(f"JSON cannot carry {safe_repr(item)[:80]}")
        if not containers:
            return
        level = []
        for container in containers.values():
            level += container
            if isinstance(container, dict):
                if strange := [key for key in container if not isinstance(key, str)]:
                    raise NotJson(f"a key must be text, not {safe_repr(strange[0])[:80]}")
                level += container.values()
    raise NestedTooDeeply


def _carried(item: object) -> bool:
    """Whether JSON carries what is no list and no mapping."""
    if isinstance(item, str):
        return item.isascii() or _well_formed(item) == item
    if isinstance(item, int):
        return item.bit_length() < 64 or _number(item) == item
    return item is None or (isinstance(item, float) and math.isfinite(item))


def check_keys(raw: bytes) -> None:
    """Make sure that every key of a text, which is known to be JSON, is read.

    A small one takes a few microseconds.

    Raises:
        KeyGivenTwice: An object has one twice.
        RecursionError: The text is nested deeper than it can be read here.
    """
    _KEYS.decode(raw.decode())


def each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object of these pairs; for ``json.loads`` as its ``object_pairs_hook``.

    Raises:
        KeyGivenTwice: It has one twice.
    """
    made = dict(pairs)
    if len(made) < len(pairs):
        times = Counter(key for key, _ in pairs)
        raise KeyGivenTwice(next(key for key in made if times[key] > 1))
    return made


# Of numbers nothing is read: one of very many digits takes long, or is refused.
_KEYS: Final = json.JSONDecoder(object_pairs_hook=each_key_once, parse_int=len, parse_float=len)


def encode_json(value: object) -> bytes:
    """Return ``value`` (JSON types and msgspec structs) as compact, strict JSON in UTF-8.

    Values of a foreign origin go through ``json_safe`` where they come in; here a NaN would
    become ``null``. A value that cannot be written at all is made safe as a last resort.
    """
    try:
        return msgspec.json.encode(value)
    except _REFUSALS:
        with suppress(*_REFUSALS):
            # It knows the tags of structs, and what of them is not set.
            value = msgspec.to_builtins(value, enc_hook=json_safe)
        return msgspec.json.encode(json_safe(value))


def decode_json(raw: bytes, *, cut: bool = False) -> Any:
    """Return what the JSON text ``raw`` stands for.

    Takes the extensions that Python's own ``json`` writes and pyoco-server 0.5.1 therefore has
    on the wire: ``NaN`` and ``Infinity`` become their Python repr (``"nan"``, ``"inf"``), and a
    lone surrogate becomes its escape.

    Args:
        raw: The text.
        cut: Read a text that is nested too deeply without what lies deeper.

    Raises:
        ValueError: The text is not JSON; the error's text says why.
        NestedTooDeeply: It is nested deeper than it can be read here.
    """
    try:
        try:
            return msgspec.json.decode(raw)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return json_safe(json.loads(raw))
    except RecursionError:
        if not cut:
            raise NestedTooDeeply from None
    try:
        return decode_json(_cut(raw))
    except ValueError:
        raise NestedTooDeeply from None


def decode_object(
    raw: bytes, what: str, refusal: type[ModelError], *, cut: bool = False
) -> dict[str, Any]:
    """Return a JSON object without its nulls, for a reader to which null is the same as missing.

    Args:
        raw: The text, as `decode_json` takes it.
        what: What it should be, such as "a run snapshot".
        refusal: What is raised where it is none; the text says why.
        cut: As of `decode_json`.
    """
    try:
        data = decode_json(raw, cut=cut)
    except ValueError as error:
        raise refusal(f"{what} must be JSON: {error}") from None
    if not isinstance(data, dict):
        raise refusal(f"{what} must be a JSON object, not {type(data).__name__}")
    return without_nulls(data)


def without_nulls(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is not null in an object."""
    return {name: value for name, value in data.items() if value is not None}


def _cut(raw: bytes) -> bytes:
    """The text with a word in the place of each container that lies too deep."""
    pieces: list[bytes] = []
    depth = kept = 0
    for token in _TOKEN.finditer(raw):
        match token[0]:
            case b"[" | b"{":
                depth += 1
                if depth == MAX_DEPTH + 1:
                    pieces += [raw[kept : token.start()], _LEFT_OUT]
            case b"]" | b"}":
                if depth == MAX_DEPTH + 1:
                    kept = token.end()
                depth -= 1
            case _:
                pass
    return b"".join([*pieces, raw[kept:]])


def json_safe(value: object) -> JSON:
    """Return ``value`` as JSON can carry it; never raises, never runs for ever.

    Numbers, text, booleans, ``None``, lists, tuples and mappings stay what they are, in their
    plain types; text loses lone surrogates to their escapes; a key that is no text becomes one,
    as ``json.dumps`` has it, or else its repr. Everything else (NaN, infinities, bytes, sets,
    datetimes, any object) becomes its repr, of at most ``MAX_REPR_CHARACTERS`` characters.
    What lies deeper than ``MAX_DEPTH``, in itself or beyond ``MAX_VALUES`` values becomes a
    shortened repr.
    """
    return Conversion().convert(value)


class Conversion:
    """One conversion: how far it may still go, and the containers that it is inside of.

    Attributes:
        exact: Whether all of the value so far is what JSON can carry.
        cut: Why something of it was left out, the first reason of many.
    """

    def __init__(self, max_values: int = MAX_VALUES) -> None:
        self.exact = True
        self.cut: str | None = None
        self._max_values = self._values_left = max_values
        self._inside: set[int] = set()

    def convert(self, value: object, depth: int = 0) -> JSON:
        """Return a value as `json_safe` does."""
        self._values_left -= 1
        try:
            # The plain types' own methods: a subclass may have overridden the usual ones.
            if value is None or isinstance(value, bool):
                return value
            if isinstance(value, str):
                return _well_formed(str.__str__(value))
            if isinstance(value, int | float):
                return _number(value)
            if isinstance(value, msgspec.Struct):
                value = msgspec.structs.asdict(value)
            if isinstance(value, list | tuple | Mapping):
                return self.container(value, value, depth)
            return self.other(value, depth)
        except BaseException:  # noqa: BLE001 - even to ask a value for its class may raise anything
            self.exact = False
            return safe_repr(value)

    def other(self, value: object, depth: int) -> JSON:  # noqa: ARG002 - for those who look inside
        """Return what stands for a value that JSON has nothing for."""
        self.exact = False
        return safe_repr(value)

    def key(self, key: object) -> str:
        """Return what stands for a key that is no text."""
        if isinstance(key, bool):
            return "true" if key else "false"
        if not isinstance(key, int | float | None):
            self.exact = False
        return "null" if key is None else safe_repr(key)

    def container(
        self, value: object, items: list[Any] | tuple[Any, ...] | Mapping[Any, Any], depth: int
    ) -> JSON:
        """Return a value that consists of others, which are ``items``."""
        if why := self._beyond(value, depth):
            self.exact = False
            self.cut = self.cut or why
            return safe_repr(value, short=True)
        self._inside.add(id(value))
        try:
            if isinstance(items, Mapping):
                return {
                    _well_formed(str.__str__(key)) if isinstance(key, str) else self.key(key): (
                        self.convert(item, depth + 1)
                    )
                    for key, item in items.items()
                }
            return [self.convert(item, depth + 1) for item in items]
        except BaseException:  # noqa: BLE001 - a foreign mapping may raise anything
            self.exact = False
            return safe_repr(value)
        finally:
            self._inside.discard(id(value))

    def _beyond(self, value: object, depth: int) -> str | None:
        """Why a value is not looked into."""
        if depth >= MAX_DEPTH:
            return f"it is nested more than {MAX_DEPTH} deep"
        if self._values_left < 0:
            return f"it has more than {self._max_values} values"
        return "it is inside of itself" if id(value) in self._inside else None


def safe_repr(value: object, *, short: bool = False) -> str:
    """Return ``repr(value)``, cut to a sane length, whatever the object's own code does."""
    try:
        text = _SHORT_REPR.repr(value) if short else repr(value)
    except BaseException as error:  # noqa: BLE001 - a foreign __repr__ may raise anything
        return f"<{type(value).__name__} object; its repr raised {type(error).__name__}>"
    if len(text) > MAX_REPR_CHARACTERS:
        text = f"{text[:MAX_REPR_CHARACTERS]}… ({len(text)} characters)"
    return _well_formed(text)


def _well_formed(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _number(value: float) -> JSON:
    if isinstance(value, float):
        real = float.__float__(value)
        return real if math.isfinite(real) else float.__repr__(real)
    number = int.__int__(value)
    try:
        int.__repr__(number)
    except ValueError:
        # Python refuses to write more than sys.get_int_max_str_digits() digits.
        return f"<integer of {number.bit_length()} bits>"
    return number
