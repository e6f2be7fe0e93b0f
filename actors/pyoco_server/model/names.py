"""Which name somebody meant who wrote another one."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(name: str, names: Iterable[str]) -> str | None:
    """Return the name that was most likely meant; None where none is like it."""
    found = difflib.get_close_matches(name[:200], [each for each in names if each != name], n=1)
    return found[0] if found else None
