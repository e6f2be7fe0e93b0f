"""Two tiny tasks that the quickstart's flow.yaml names."""

from __future__ import annotations


def add_one(x: int = 0) -> int:
    """Return ``x`` plus one."""
    return int(x) + 1


def to_text(add_one: int) -> str:
    """Return the result of ``add_one`` as the text ``v=<number>``."""
    return f"v={int(add_one)}"
