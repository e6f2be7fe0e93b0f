"""How far a task is, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pyoco_cli.common.output import printable


def progress_text(progress: Mapping[str, Any]) -> str:
    """Say how far a task is, as it told itself."""
    done, total = progress.get("done"), progress.get("total")
    parts: list[str] = []
    if total:
        parts.append(f"{_figure(done or 0)}/{_figure(total)} ({(done or 0) / total:.0%})")
    elif done is not None:
        parts.append(_figure(done))
    if progress.get("message"):
        parts.append(printable(progress["message"]).replace("\n", " "))
    return "  ".join(parts)


def _figure(number: float) -> str:
    return str(number) if isinstance(number, int) else f"{number:g}"
