"""Counts as people read them: 1 run, 2 runs."""

from __future__ import annotations


def counted(count: int, one: str, many: str | None = None) -> str:
    """Return a count with what it counts: ``one`` for 1, else ``many`` (an s more unless told)."""
    return f"{count} {one if count == 1 else many or f'{one}s'}"
