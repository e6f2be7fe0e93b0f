"""Namespaces of modules, and whether anything in them was replaced: seen without a look at what they hold.

CPython numbers the changes of dicts, each anew, up to 3.12 (PEP 509). Where it does not, all is compared.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from operator import is_
from types import ModuleType
from typing import Any, Final

from pyoco_server.worker.runner.parts import ProcessPart, leave

# Behind what every object has and the number of keys: `PyDictObject` of Include/cpython/dictobject.h.
_OFFSET: Final = object.__basicsize__ + ctypes.sizeof(ctypes.c_ssize_t)


def _number_of(namespace: dict[str, Any]) -> ctypes.c_uint64:
    """The number of its last change, as it is at each moment."""
    return ctypes.c_uint64.from_address(id(namespace) + _OFFSET)


def _are_numbered() -> bool:
    tried: dict[str, Any] = {"a": 1}
    number = _number_of(tried)
    before = number.value
    if tried["a"] != 1 or number.value != before:
        return False
    tried["a"] = 2
    return number.value != before


NUMBERED: Final = _are_numbered()
"""Whether this Python numbers the changes of dicts."""


class Namespaces(ProcessPart):
    """What modules have.

    Args:
        name: What they are, for people.
        modules: They; none of them ever goes.
        put_back: Makes it what it was.
    """

    def __init__(
        self,
        name: str,
        modules: Sequence[ModuleType],
        put_back: Callable[[Any], None] = leave,
    ) -> None:
        super().__init__(name, self._values, put_back)
        self._namespaces = [vars(module) for module in modules]
        self._numbers = [_number_of(each) for each in self._namespaces] if NUMBERED else []
        self._seen: list[int] = []

    def settle(self) -> None:
        """They are as they should be now."""
        seen = self._last_changes()
        super().settle()
        self._seen = seen

    @property
    def changed(self) -> bool:
        """Whether they are not as they should be."""
        now = self._last_changes()
        if now and now == self._seen:
            return False
        changed = self._differs(self.read())
        if not changed:
            self._seen = now
        return changed

    def _differs(self, values: list[list[Any]]) -> bool:
        # A copy may be equal to what it stands for, as one of the table of modules is.
        return any(
            len(now) != len(before) or not all(map(is_, now, before))
            for now, before in zip(values, self.fresh, strict=True)
        )

    def _last_changes(self) -> list[int]:
        return [number.value for number in self._numbers]

    def _values(self) -> list[list[Any]]:
        return [list(namespace.values()) for namespace in self._namespaces]
