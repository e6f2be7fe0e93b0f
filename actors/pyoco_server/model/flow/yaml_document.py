"""YAML, cut down to what JSON can say, and with the place of every value.

PyYAML's parser gives the events; the values are built here, so that limits hold before memory is
spent: no aliases (387 bytes of them can stand for 47 MB), bounded depth and number of nodes, text
keys without duplicates, and no types but JSON's. Plain scalars mean what PyYAML's safe loader
says they mean (YAML 1.1); those that mean something else, or nothing special, to nearly everybody who
writes them are refused: see `surprise`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import yaml

from pyoco_server.model.errors import FlowFileError
from pyoco_server.model.json_text import JSON, MAX_DEPTH

MAX_NODES: Final = 10_000
MAX_NUMBER_CHARACTERS: Final = 400
MAX_ERRORS: Final = 50
"""How many errors of a file are told; behind them it is not read on."""
# The parser compares each with all before it.
_MOST_DIRECTIVES: Final = 100

Path: TypeAlias = tuple[str | int, ...]
"""Keys and indices from the document's root to a value."""

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_TAG: Final = "tag:yaml.org,2002:"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a value starts; both count from 1."""

    line: int
    column: int
    style: str | None = None
    """How a scalar is written: ``|`` and ``>`` for blocks, a quote, or nothing for plain."""


@dataclass(frozen=True, slots=True)
class YamlDocument:
    """The value of a document, and the place of every value and of every key in it.

    What is wrong in it has no value, or the one that it would have had.
    """

    value: JSON
    places: dict[Path, Place]
    keys: dict[Path, Place]
    errors: tuple[FlowFileError, ...] = ()

    def error(self, reason: str, path: Path, nearest: str | None = None) -> FlowFileError:
        """Return the error that says what is wrong at ``path``, and which word was most likely meant."""
        known = path
        while known not in self.places and known:
            known = known[:-1]
        return _at(self.places.get(known, Place(1, 1)), reason, path, nearest)

    def key_error(self, reason: str, path: Path, nearest: str | None = None) -> FlowFileError:
        """Return the error that says what is wrong with the last key of ``path``."""
        return _at(self.keys.get(path, Place(1, 1)), reason, path, nearest)


def path_text(path: Path) -> str:
    """Return a path as people write it, e.g. ``tasks.add_one.outputs[0]``."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            text += f".{step[:80]}" if text else step[:80]
    return text


# What YAML 1.1 makes another value of than is written, and YAML 1.2 does not.
_OTHER_VALUE: Final = {
    "bool": re.compile(r"(?i:y|n|yes|no|on|off)"),
    "int": re.compile(r"[-+]?(0b.*|0[0-9_]+|.*_.*|.*:.*)"),
    "float": re.compile(r".*[_:].*"),
}
# What are numbers to YAML 1.2, and texts to 1.1. Without point and sign it may as well be a digest in hex.
_NUMBER_TO_MOST: Final = re.compile(
    r"[-+]?(0o[0-7]+|([0-9]+\.[0-9]*|\.[0-9]+)[eE][0-9]+|[0-9]+\.?[0-9]*[eE][-+][0-9]+)"
    r"|[-+]\.[0-9]+([eE][-+][0-9]+)?"
)


def surprise(tag: str, text: str) -> str | None:
    """Why a plain scalar is not taken although YAML 1.1 gives it a meaning; None where it is.

    Args:
        tag: The type that YAML 1.1 reads it as, such as ``int`` or ``str``.
        text: What is written.
    """
    if len(text) > MAX_NUMBER_CHARACTERS:
        return None  # as a number it is refused for that, and the patterns would take long
    if tag in _OTHER_VALUE and _OTHER_VALUE[tag].fullmatch(text):
        better = "write true or false" if tag == "bool" else "write it in decimal digits"
        return f'{text} is a {tag} of YAML 1.1 that few expect; {better}, or quote it: "{text}"'
    if tag == "str" and _NUMBER_TO_MOST.fullmatch(text):
        return (
            f'{text} is a text to YAML 1.1; write a number as 0.5 or 1.0e+3, or quote it: "{text}"'
        )
    return None


def parse_yaml(text: str, *, max_nodes: int = MAX_NODES) -> YamlDocument:
    """Read one YAML document, of at most ``max_nodes`` keys and values.

    Raises:
        FlowFileError: It is not YAML, holds more than one document or none, or goes beyond what
            this module takes; the error tells the line.
    """
    document = read_yaml(text, max_nodes=max_nodes)
    if document.errors:
        raise first_of(document.errors)
    return document


def read_yaml(text: str, *, max_nodes: int = MAX_NODES, accepted: bool = False) -> YamlDocument:
    """Read a document as `parse_yaml` does, and go on where something is wrong that others do not come of.

    Args:
        text: The document.
        max_nodes: How many keys and values are taken.
        accepted: Whether it was accepted before, maybe by another version: what would be refused for its
            meaning has the one of YAML 1.1 then.

    Raises:
        FlowFileError: There is no going on.
    """
    errors: list[FlowFileError] = []
    if text.count("\n%") > _MOST_DIRECTIVES:
        raise FlowFileError(f"more than {_MOST_DIRECTIVES} lines begin with %, as directives do")
    try:
        loader = _Loader(text)
        try:
            return _TreeBuilder(loader, max_nodes, errors, accepted=accepted).document()
        finally:
            loader.dispose()
    except FlowFileError as error:
        last = error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        last = FlowFileError(
            f"not valid YAML: {error.problem or error.context}",
            line=mark.line + 1 if mark else None,
            column=mark.column + 1 if mark else None,
        )
    except yaml.YAMLError as error:
        last = FlowFileError(f"not valid YAML: {str(error).splitlines()[0]}")
    raise first_of([*errors, last])


def first_of(errors: Iterable[FlowFileError]) -> FlowFileError:
    """Return the first error by its line, which tells of the others; there is one at least."""
    first, *others = sorted(errors, key=lambda error: (error.line or 0, error.column or 0))
    first.others = tuple(others[: MAX_ERRORS - 1])
    return first


class _TreeBuilder:
    """Builds one document of a loader's events; notes what is wrong and leaves the rest as it is."""

    def __init__(
        self, loader: Any, max_nodes: int, errors: list[FlowFileError], *, accepted: bool
    ) -> None:
        self._loader = loader
        self._accepted = accepted
        self._max_nodes = max_nodes
        self._places: dict[Path, Place] = {}
        self._keys: dict[Path, Place] = {}
        self._nodes = 0
        self._errors = errors

    def document(self) -> YamlDocument:
        self._loader.get_event()  # the start of the stream
        if isinstance(self._loader.get_event(), yaml.StreamEndEvent):
            raise FlowFileError("the document is empty", line=1, column=1)
        value = self._value(self._loader.get_event(), ())
        self._loader.get_event()  # the end of the document
        event = self._loader.get_event()
        if not isinstance(event, yaml.StreamEndEvent):
            raise _error("one document is enough; remove this one", event, ())
        return YamlDocument(value, self._places, self._keys, tuple(self._errors))

    def _note(self, error: FlowFileError) -> None:
        if len(self._errors) == MAX_ERRORS - 1:
            raise error
        self._errors.append(error)

    def _wrong(self, reason: str, event: Any, path: Path) -> None:
        self._note(_error(reason, event, path))

    def _value(self, event: Any, path: Path) -> JSON:
        self._admit(event, path)
        self._places[path] = _place(event)
        if isinstance(event, yaml.AliasEvent):
            return None
        if isinstance(event, yaml.ScalarEvent):
            try:
                return self._scalar(event, path)
            except FlowFileError as error:
                self._note(error)
                return None
        kind = "seq" if isinstance(event, yaml.SequenceStartEvent) else "map"
        if event.tag not in {None, "!", _TAG + kind}:
            self._wrong(f"the tag {event.tag} is not taken", event, path)
        # The params of a flow.yaml stand two levels down, at flow.defaults.
        if len(path) >= MAX_DEPTH + 2:
            raise _error(f"nested more than {MAX_DEPTH} deep", event, path)
        return self._list(path) if kind == "seq" else self._mapping(path)

    def _admit(self, event: Any, path: Path) -> None:
        self._nodes += 1
        if self._nodes > self._max_nodes:
            raise _error(f"more than {self._max_nodes} keys and values", event, path)
        if isinstance(event, yaml.AliasEvent):
            self._wrong(f"aliases are not taken; write out what *{event.anchor} means", event, path)
        elif event.anchor is not None:
            self._wrong(f"anchors are not taken; remove &{event.anchor}", event, path)

    def _list(self, path: Path) -> list[JSON]:
        items: list[JSON] = []
        while not isinstance(event := self._loader.get_event(), yaml.SequenceEndEvent):
            items.append(self._value(event, (*path, len(items))))
        return items

    def _mapping(self, path: Path) -> dict[str, JSON]:
        entries: dict[str, JSON] = {}
        while not isinstance(event := self._loader.get_event(), yaml.MappingEndEvent):
            key = self._key(event, path)
            self._keys.setdefault((*path, key), _place(event))
            if key in entries:
                self._wrong("given twice; keep one of the two", event, (*path, key))
                self._pass_over((*path, key))
            else:
                entries[key] = self._value(self._loader.get_event(), (*path, key))
        return entries

    def _pass_over(self, path: Path) -> None:
        """Leave out a value, whatever is in it."""
        unread = _TreeBuilder(self._loader, self._max_nodes - self._nodes, [], accepted=True)
        unread._value(self._loader.get_event(), path)
        self._nodes += unread._nodes

    def _key(self, event: Any, path: Path) -> str:
        self._admit(event, path)
        if not isinstance(event, yaml.ScalarEvent):
            raise _error("a key must be a text, not a list or mapping", event, path)
        tag, key = self._tag(event, path), str(event.value)
        if tag == "merge":
            self._wrong("merge keys (<<) are not taken; write out the keys", event, (*path, key))
        elif tag != "str":
            self._wrong(f'a key must be a text; quote it: "{key[:80]}"', event, (*path, key))
        return key

    def _tag(self, event: Any, path: Path) -> str:
        """Return the short name of a scalar's type."""
        tag = event.tag
        if tag is None or tag == "!":
            tag = self._loader.resolve(yaml.ScalarNode, event.value, event.implicit)
        if not tag.startswith(_TAG):
            self._wrong(f"the tag {tag} is not taken", event, path)
            return "str"
        return str(tag.removeprefix(_TAG))

    def _scalar(self, event: Any, path: Path) -> JSON:
        tag = self._tag(event, path)
        text = event.value
        # A text that is quoted, or said to be one, is one.
        unclear = tag != "str" or not (event.style or event.tag)
        if unclear and not self._accepted and (reason := surprise(tag, text)):
            raise _error(reason, event, path)
        if tag == "str":
            return str(text)
        if tag == "timestamp":
            raise _error(f'JSON has no dates; for a text, quote it: "{text}"', event, path)
        if tag not in {"null", "bool", "int", "float"}:
            raise _error(f"values of type {tag} are not taken; for a text, quote it", event, path)
        if len(text) > MAX_NUMBER_CHARACTERS:
            raise _error(f"a number of more than {MAX_NUMBER_CHARACTERS} characters", event, path)
        node = yaml.ScalarNode(_TAG + tag, text, event.start_mark, event.end_mark)
        try:
            value: JSON = getattr(self._loader, f"construct_yaml_{tag}")(node)
        except (ValueError, KeyError, IndexError, OverflowError):
            raise _error(f"{text[:80]!r} is no {tag}", event, path) from None
        if isinstance(value, float) and not math.isfinite(value):
            raise _error(f"JSON has no {text[:80]}; for a text, quote it", event, path)
        return value


def _place(event: Any) -> Place:
    mark = event.start_mark
    style = event.style if isinstance(event, yaml.ScalarEvent) else None
    return Place(mark.line + 1, mark.column + 1, style)


def _error(reason: str, event: Any, path: Path) -> FlowFileError:
    return _at(_place(event), reason, path)


def _at(place: Place, reason: str, path: Path, nearest: str | None = None) -> FlowFileError:
    return FlowFileError(
        reason, path=path_text(path), line=place.line, column=place.column, nearest=nearest
    )
