"""What a submission may ask of time: when its run may start, until when, and from when on it is late.

Times are unix seconds of the server's clock.
"""

from __future__ import annotations

import math
from datetime import datetime
from typing import Final

import msgspec

from pyoco_server.model.errors import InvalidField

MAX_AHEAD_SECONDS: Final = 366 * 86_400.0
"""How far ahead a start or an expiry may lie, and how long a span may be."""

_MOMENTS: Final = ("start_at", "expires_at")
_LONGEST_TEXT: Final = 64
_MOMENT: Final = (
    "takes unix seconds, or an ISO 8601 time with its zone such as 2030-01-31T09:00:00Z"
)
_SPAN: Final = f"up to {MAX_AHEAD_SECONDS:.0f}"


class Timing(msgspec.Struct, frozen=True, kw_only=True):
    """What one run asks of time; ``None`` is "not set"."""

    start_at: float | None = None
    """Not to be started before; what has passed already means now."""
    delay_sec: float | None = None
    """The same, in seconds from its submission."""
    expires_at: float | None = None
    """Not to be started then or later."""
    queue_ttl_sec: float | None = None
    """The same, in seconds from when it may start."""
    expected_start_within_sec: float | None = None
    """It is late where it has not started so many seconds after it may."""
    expected_end_within_sec: float | None = None
    """It is late where it has not ended so many seconds after it may start."""

    def over(self, other: Timing) -> Timing:
        """Return these, with those of ``other`` where nothing is set."""
        names = self.__struct_fields__
        said = {name: value for name in names if (value := getattr(self, name)) is not None}
        return msgspec.structs.replace(other, **said)

    def due(self, now: float) -> float | None:
        """When it may start; None for at once."""
        due = self.start_at if self.delay_sec is None else now + self.delay_sec
        return None if due is None or due <= now else due

    def expiry(self, now: float) -> float | None:
        """When it may not start any more; None for never."""
        if self.queue_ttl_sec is None:
            return self.expires_at
        return (self.due(now) or now) + self.queue_ttl_sec


TIMING_FIELDS: Final = Timing.__struct_fields__
MOVED_FIELDS: Final = ("start_at", "delay_sec", "expires_at", "queue_ttl_sec")
"""What can be changed of a run that has not started."""

SPAN_FIELDS: Final = ("queue_ttl_sec", "expected_start_within_sec", "expected_end_within_sec")
"""What can be said of runs without a moment, such as those of a schedule."""

NO_TIMING: Final = Timing()


def check_timing(now: float, **asked: object) -> Timing:
    """Return what is asked for; ``None`` and the empty text are "not set".

    Args:
        now: The time.
        asked: A moment is a number, or a text that is one or an ISO 8601 time with its zone; a span is a
            number of seconds, or a text that is one.

    Raises:
        InvalidField: One of them is not what it should be.
    """
    given = {name: value for name, value in asked.items() if value is not None and value != ""}
    if not given:
        return NO_TIMING
    read: dict[str, float] = {
        name: _moment(name, value, now) if name in _MOMENTS else _span(name, value)
        for name, value in given.items()
    }
    for one, other in (("delay_sec", "start_at"), ("queue_ttl_sec", "expires_at")):
        if one in read and other in read:
            raise InvalidField(one, f"says the same as {other}: give one of the two")
    timing = Timing(**read)
    due = timing.due(now)
    if due is not None and timing.expires_at is not None and timing.expires_at <= due:
        raise InvalidField("expires_at", "must be later than the start")
    return timing


def _moment(name: str, value: object, now: float) -> float:
    moment = _number(value)
    if moment is None and isinstance(value, str):
        moment = _of_iso(value.strip()) if len(value) <= _LONGEST_TEXT else None
    if moment is None or not math.isfinite(moment):
        raise InvalidField(name, f"{_MOMENT}, not {_shown(value)}")
    if moment > now + MAX_AHEAD_SECONDS:
        raise InvalidField(
            name, f"lies more than {MAX_AHEAD_SECONDS / 86_400:.0f} days ahead, which is the most"
        )
    return moment


def _of_iso(text: str) -> float | None:
    try:
        moment = datetime.fromisoformat(text)
        return None if moment.tzinfo is None else moment.timestamp()
    except (ValueError, OverflowError):
        return None


def _span(name: str, value: object) -> float:
    zero = name == "delay_sec"
    takes = f"must be seconds, {'0' if zero else 'more than 0'} {_SPAN}"
    span = _number(value)
    if (
        span is None
        or not math.isfinite(span)
        or not 0 <= span <= MAX_AHEAD_SECONDS
        or not (zero or span > 0)
    ):
        raise InvalidField(name, f"{takes}, not {_shown(value)}")
    return span


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None


def _shown(value: object) -> str:
    return repr(value)[:40] if isinstance(value, (str, int, float)) else type(value).__name__
