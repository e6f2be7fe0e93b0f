"""What a user may set for the attempts of a run: what one may take, how many there are, the wait."""

from __future__ import annotations

import math
from typing import Any, Final

import msgspec
from msgspec import UNSET

from pyoco_server.model.errors import InvalidField

MAX_TIMEOUT_SECONDS: Final = 30 * 86_400.0
MAX_ATTEMPTS: Final = 100
MAX_BACKOFF_SECONDS: Final = 3_600.0
MAX_MEMORY_MB: Final = 1024 * 1024
MAX_CPU_SECONDS: Final = 100 * MAX_TIMEOUT_SECONDS
DEFAULT_BACKOFF_SECONDS: Final = 1.0
"""How long a run waits before its second attempt, where nothing else is set."""


class RunLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Limits of one run; ``None`` is "not set"."""

    timeout_sec: float | None = None
    """How long one attempt may take, in seconds; no limit where it is not set."""
    max_attempts: int | None = None
    """How often the run may be started, whatever ended an attempt; where it is not set, a failed attempt is
    the end, and one that was lost with its worker is repeated for as long as its job is delivered."""
    retry_backoff_sec: float | None = None
    """The wait before the second attempt, in seconds; doubled before each further one."""
    memory_mb: int | None = None
    """How much memory the processes of an attempt may have together, in MB of 1,048,576 bytes."""
    cpu_sec: float | None = None
    """How much processor time they may take together, in seconds."""

    def over(self, other: RunLimits) -> RunLimits:
        """Return these limits, with those of ``other`` where nothing is set."""
        return msgspec.structs.replace(other, **limits_in(self))


LIMIT_FIELDS: Final = RunLimits.__struct_fields__


def limits_in(source: object) -> dict[str, Any]:
    """Return the limits that are set, by name, of what has fields for them: limits, a run, its job, …."""
    return {
        name: value
        for name in LIMIT_FIELDS
        if (value := getattr(source, name)) is not None and value is not UNSET
    }


def check_limits(
    *,
    timeout_sec: object = None,
    max_attempts: object = None,
    retry_backoff_sec: object = None,
    memory_mb: object = None,
    cpu_sec: object = None,
) -> RunLimits:
    """Return the limits, each of them a number, or a text that is one; ``None`` is "not set".

    Raises:
        InvalidField: One of them is not what it should be.
    """
    return RunLimits(
        timeout_sec=_seconds("timeout_sec", timeout_sec, MAX_TIMEOUT_SECONDS, zero=False),
        max_attempts=_whole("max_attempts", max_attempts, MAX_ATTEMPTS),
        retry_backoff_sec=_seconds(
            "retry_backoff_sec", retry_backoff_sec, MAX_BACKOFF_SECONDS, zero=True
        ),
        memory_mb=_whole("memory_mb", memory_mb, MAX_MEMORY_MB),
        cpu_sec=_seconds("cpu_sec", cpu_sec, MAX_CPU_SECONDS, zero=False),
    )


def backoff(first_sec: float | None, attempt: int, cap_sec: float) -> float:
    """Return the wait after a failed attempt, in seconds.

    Args:
        first_sec: The wait after the first one; `DEFAULT_BACKOFF_SECONDS` when ``None``.
        attempt: The number of the attempt that failed, from 1.
        cap_sec: The longest wait.
    """
    first = DEFAULT_BACKOFF_SECONDS if first_sec is None else first_sec
    return float(min(first * 2.0 ** min(max(attempt - 1, 0), 60), cap_sec))


def _seconds(field: str, value: object, most: float, *, zero: bool) -> float | None:
    takes = f"must be seconds, {'0' if zero else 'more than 0'} up to {most:.0f}"
    number = _number(field, value, takes)
    if number is not None and not (0 <= number <= most and (zero or number > 0)):
        raise InvalidField(field, f"{takes}, not {number:g}")
    return number


def _whole(field: str, value: object, most: int) -> int | None:
    takes = f"must be a whole number from 1 to {most}"
    number = _number(field, value, takes)
    if number is None:
        return None
    if not number.is_integer() or not 1 <= number <= most:
        raise InvalidField(field, f"{takes}, not {number:g}")
    return int(number)


def _number(field: str, value: object, takes: str) -> float | None:
    if value is None or value == "":
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise InvalidField(field, f"{takes}, not {type(value).__name__}")
    try:
        number = float(value)
    except (ValueError, OverflowError):
        raise InvalidField(field, f"{takes}, not {str(value)[:40]!r}") from None
    if not math.isfinite(number):
        raise InvalidField(field, f"{takes}, not {number}")
    return number
