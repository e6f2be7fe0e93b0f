"""The forms that values beyond JSON have in the result of a task, instead of their repr.

They are those of docs/reference/results.md, which a test holds against this module. What belongs to numpy,
pandas or pydantic is only looked for where code has imported them already.
"""

from __future__ import annotations

import sys
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from typing import Any, Final
from uuid import UUID

import msgspec

from pyoco_server.model.json_text import JSON, MAX_VALUES, Conversion, safe_repr


@dataclass(frozen=True, slots=True)
class Formed:
    """A value as JSON, and why that is not all of it."""

    value: JSON
    cut: str | None


def with_forms(value: object, *, max_values: int = MAX_VALUES) -> Formed:
    """Return ``value`` as JSON, what JSON has nothing for in its form or else as its repr; never raises."""
    forms = _Forms(max_values=max_values)
    return Formed(forms.convert(value), forms.cut)


class _NoForm(Exception):
    """It is its repr."""


class _Forms(Conversion):
    def other(self, value: object, depth: int) -> JSON:
        try:
            return self._form(value, depth)
        except BaseException:  # noqa: BLE001 - that, and whatever the value's own code raises
            return super().other(value, depth)

    def key(self, key: object) -> str:
        formed = None if key is None or isinstance(key, int | float) else self.other(key, 0)
        return formed if isinstance(formed, str) else super().key(key)

    def _form(self, value: object, depth: int) -> JSON:
        if (text := _text(value)) is not None:
            return text
        match value:
            case Enum():
                return self.convert(value.value, depth)
            case set() | frozenset():
                return self.container(value, _sorted(value), depth)
            case type():
                raise _NoForm
            case _ if is_dataclass(value):
                shown = [each.name for each in fields(value) if each.repr]
                return self.container(value, {name: getattr(value, name) for name in shown}, depth)
            case _:
                return self._foreign(value, depth)

    def _foreign(self, value: Any, depth: int) -> JSON:
        for module, form in _FOREIGN.items():
            # Not imported: then the value is none of its own.
            if module in sys.modules:
                try:
                    items = form(sys.modules[module], value, self._values_left)
                except _NoForm:
                    continue
                except _TooMany:
                    self.cut = self.cut or f"it has more than {self._max_values} values"
                    raise
                if isinstance(items, list | Mapping):
                    return self.container(value, items, depth)
                if type(items) is type(value):
                    raise _NoForm
                return self.convert(items, depth)
        raise _NoForm


def _text(value: object) -> str | None:
    """The text that a value is; None for one that is no single text."""
    match value:
        case datetime() | date() | time():
            return value.isoformat()
        case timedelta():
            plain = timedelta(value.days, value.seconds, value.microseconds)
            return str(msgspec.to_builtins(plain))
        case Decimal() | UUID() | PurePath():
            return str(value)
        case bytes() | bytearray() | memoryview():
            return b64encode(value).decode()
        case _:
            return None


class _TooMany(Exception):
    """More values than are looked at."""


def _of_numpy(numpy: Any, value: Any, most: int) -> Any:
    if not isinstance(value, numpy.ndarray | numpy.generic):
        raise _NoForm
    if value.size > most:
        raise _TooMany
    match value.dtype.kind, value.dtype.itemsize:
        case "m" | "M", _:  # Python's own of nanoseconds would be a bare number
            return value.astype(str).tolist()
        case "f", size if size > 8:  # Python has none of its own
            return value.astype("float64").tolist()
        case "c" | "V", _ if value.ndim == 0:
            raise _NoForm
        case _:
            return value.tolist()


def _of_pandas(pandas: Any, value: Any, most: int) -> Any:
    if value is pandas.NA:
        return None
    if isinstance(value, pandas.Index):
        return _listed(value, most)
    if isinstance(value, pandas.Series):
        return {
            "name": value.name,
            "index": _listed(value.index, most),
            "data": _listed(value, most),
        }
    if not isinstance(value, pandas.DataFrame):
        raise _NoForm
    if value.size > most:
        raise _TooMany
    return value.to_dict(orient="split")


def _listed(values: Any, most: int) -> list[Any]:
    if len(values) > most:
        raise _TooMany
    return list(values.tolist())


def _of_pydantic(pydantic: Any, value: Any, most: int) -> Any:  # noqa: ARG001 - it is in memory already
    if not isinstance(value, pydantic.BaseModel):
        raise _NoForm
    return value.model_dump(mode="json")


_FOREIGN: Final = {"numpy": _of_numpy, "pandas": _of_pandas, "pydantic": _of_pydantic}


def _sorted(values: set[Any] | frozenset[Any]) -> list[Any]:
    """The same each time, though the order of texts in a set is another one in each process."""
    try:
        # Sets are not in any order among themselves.
        if not any(isinstance(value, set | frozenset) for value in values):
            return sorted(values)
    except TypeError:
        pass
    return sorted(values, key=lambda value: (type(value).__name__, safe_repr(value)))
