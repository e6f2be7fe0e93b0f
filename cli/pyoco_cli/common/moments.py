"""Points in time and spans as people write them: ``1d``, ``yesterday 22:00``, ISO 8601, unix seconds."""

from __future__ import annotations

import math
import re
import time
from datetime import datetime, timedelta
from typing import Any, Final

import typer

TAKES: Final = "a span back (90s, 2h, 1d), today, yesterday, 22:00, an ISO 8601 time, unix seconds"
_UNITS: Final = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400, "w": 604_800}
_PART: Final = r"(\d+(?:\.\d+)?) ?(s|m|min|h|d|w)"
_SPAN: Final = re.compile(rf"{_PART}(?: ?{_PART})*")
_DAY: Final = re.compile(r"(today|yesterday)?(?:(?<=y)[ T]|)(?:(\d{1,2}):(\d{2})(?::(\d{2}))?)?")


def span(text: str) -> float | None:
    """Return the seconds of a span such as ``90s``, ``2h`` or ``1d 12h``; ``None`` where it is none."""
    if _SPAN.fullmatch(text) is None:
        return None
    return sum(float(count) * _UNITS[unit] for count, unit in re.findall(_PART, text))


def moment(text: str, now: float | None = None) -> float:
    """Return a point in time in unix seconds; what has no zone is of this machine's.

    Raises:
        ValueError: It is none.
    """
    now = time.time() if now is None else now
    wanted = text.strip()
    if (back := span(wanted.removesuffix("ago").rstrip())) is not None:
        return now - back
    if wanted == "now":
        return now
    try:
        found = float(wanted)
    except ValueError:
        day = _of_day(wanted, now) or datetime.fromisoformat(wanted)
        try:
            found = day.astimezone().timestamp()
        except OverflowError as error:
            raise ValueError(str(error)) from None
    if not math.isfinite(found):
        raise ValueError("not a finite number")
    return found


def _of_day(text: str, now: float) -> datetime | None:
    found = _DAY.fullmatch(text)
    if found is None or not text:
        return None
    midnight = datetime.fromtimestamp(now).replace(hour=0, minute=0, second=0, microsecond=0)  # noqa: DTZ006
    day = midnight - timedelta(days=found[1] == "yesterday")
    return day.replace(
        hour=int(found[2] or 0), minute=int(found[3] or 0), second=int(found[4] or 0)
    )


def _option(text: str) -> float:
    try:
        return moment(text)
    except ValueError:
        raise typer.BadParameter(f"{text[:80]!r} is no time; it takes {TAKES}") from None


def moment_option(*names: str, help: str) -> Any:  # noqa: A002 - as Typer has it
    """An option that takes a point in time."""
    return typer.Option(*names, parser=_option, metavar="TIME", help=help)
