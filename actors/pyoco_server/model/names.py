"""Which name somebody meant who wrote another one."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from heapq import nlargest
from itertools import pairwise
from typing import Final

# To compare two names well takes a time that grows with the square of their length, or faster.
_CHARACTERS: Final = 80
_COMPARED: Final = 20


def nearest(name: str, names: Iterable[str]) -> str | None:
    """Return the name that was most likely meant; None where none is like it.

    It takes a time that grows with the length of all names, whatever they are.
    """
    name = name[:_CHARACTERS]
    others = [each for each in names if each != name]
    if len(others) > _COMPARED:
        pairs = set(_pairs(name))

        def shared(other: str) -> float:
            return len(pairs.intersection(_pairs(other))) / (len(name) + len(other))

        others = nlargest(_COMPARED, others, key=shared)
    found = difflib.get_close_matches(name, others, n=1)
    return found[0] if found else None


def _pairs(name: str) -> Iterable[tuple[str, str]]:
    """Its characters by two, where it begins and ends among them."""
    return pairwise(f" {name} ")
