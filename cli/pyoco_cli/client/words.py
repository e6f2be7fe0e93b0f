"""Times and progress in words, as people read them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pyoco_cli.common.output import printable


def moment(value: object) -> str:
    """A point in time (unix seconds, or text as it is) in local time."""
    if not isinstance(value, (int, float)):
        return printable("" if value is None else value)
    try:
        return datetime.fromtimestamp(value).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    except (ValueError, OverflowError, OSError):
        return printable(value)


def age(value: object) -> str:
    """How long ago a point in time (unix seconds, or ISO 8601) is, in one unit."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value).timestamp()
        except ValueError:
            return "-"
    if not isinstance(value, (int, float)):
        return "-"
    seconds = max(time.time() - value, 0.0)
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


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
