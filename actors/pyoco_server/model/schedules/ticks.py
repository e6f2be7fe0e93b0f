"""When a schedule is due: its ticks, in whole unix seconds, one after the other and each once.

A tick is a moment of the wall clock of the schedule's time zone, or one of so many seconds after another.
Where clocks are put forward or back, the sense is that of Debian's cron (cron(8), "Notes"), for crontabs of
five fields and of six:

- A crontab whose minute or hour begins with ``*`` goes by the time that passes: what the skipped hour would
  have had is not there, and what the repeated hour has is there twice.
- Any other one, and a recurrence rule, names times of day: one that is skipped is due at the first moment
  after the gap, together with whatever else is due then, and one that comes twice is due the first time only.
"""

from __future__ import annotations

import bisect
import hashlib
import math
import re
from calendar import isleap
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from datetime import datetime, timedelta
from functools import lru_cache
from itertools import islice
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError
from dateutil.parser import parse as parse_date
from dateutil.rrule import rrule, rrulestr

from pyoco_server.model.schedules.schedule import Schedule, ScheduleSpec

LAST_MOMENT: Final = 7_258_118_400
"""The beginning of the year 2200: there are no ticks from then on."""

MAX_EXPRESSION_CHARACTERS: Final = 500

_EPOCH: Final = datetime(1970, 1, 1)  # noqa: DTZ001 - a wall clock has no zone
_DAY: Final = 86_400
# What may be looked at one by one on the way to the latest ticks of a long time.
_CHUNK: Final = 2_000
# Each occurrence up to the one that is looked for costs time.
_MOST_TIMES_OF_DAY: Final = 96
# Each of them makes a list of its own of the days of each step.
_MOST_POSITIONS: Final = 12
_STEPS: Final = frozenset({"DAILY", "WEEKLY", "MONTHLY", "YEARLY"})
_UNTIL: Final = re.compile(r"UNTIL=([^;]+)")
# dateutil looks for an occurrence up to the year 9999, which takes half a minute for a rule that has none.
# The calendar is the same again after 400 years: so many times that later, less is left to look through.
_CYCLES: Final = 19 * timedelta(days=146_097)
_LAST_DAY: Final = datetime(2200, 1, 2)  # noqa: DTZ001
# The numbers that a part takes: the least, the most, and whether they may be counted from the end.
_RANGES: Final = {
    "BYMONTH": (1, 12, False),
    "BYMONTHDAY": (1, 31, True),
    "BYYEARDAY": (1, 366, True),
    "BYWEEKNO": (1, 53, True),
    "BYSETPOS": (1, 366, True),
    "BYHOUR": (0, 23, False),
    "BYMINUTE": (0, 59, False),
    "BYSECOND": (0, 59, False),
}
# What crontab(5) has names for.
_NICKNAMES: Final = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
# What the fields take, by the names that cronsim gives them.
_CRON_FIELDS: Final = {
    "second": "0 to 59",
    "minute": "0 to 59",
    "hour": "0 to 23",
    "day-of-month": "1 to 31, L or LW",
    "month": "1 to 12 or JAN to DEC",
    "day-of-week": "0 to 7 (0 and 7 are Sunday) or SUN to SAT",
}
_OTHER_PARTS: Final = frozenset({"FREQ", "INTERVAL", "COUNT", "UNTIL", "WKST", "BYDAY"})
_BYDAY: Final = re.compile(r"([+-]?[0-9]{1,2})?(MO|TU|WE|TH|FR|SA|SU)")

on_the_way: Final[ContextVar[Callable[[], None]]] = ContextVar("on_the_way", default=lambda: None)
"""Called before each tick that is computed; raises where nobody waits for them any more."""


class NotATiming(ValueError):
    """A crontab, recurrence rule or time zone that cannot be one, here; the text says why.

    What one machine and its libraries take, another one may not.
    """


def zone_of(name: str) -> ZoneInfo:
    """The time zone of a name.

    Raises:
        NotATiming: This machine has none.
    """
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise NotATiming(f"this machine has no time zone {name[:80]!r}") from None


def ticks(spec: ScheduleSpec, after: float) -> Iterator[int]:
    """The ticks later than a moment, in order.

    Args:
        spec: What they follow from.
        after: In unix seconds.

    Raises:
        NotATiming: They cannot be computed.
    """
    begin = int(after // 1)
    if spec.start_at is not None:
        begin = max(begin, spec.start_at - 1)
    check = on_the_way.get()
    check()
    try:
        for tick in _all(spec, begin):
            if spec.end_at is not None and tick > spec.end_at:
                return
            yield tick
            check()
    except NotATiming:
        raise
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        # What was never checked, or by another version of us or of the libraries.
        raise NotATiming(f"{type(error).__name__}: {error}"[:200]) from error


def next_tick(spec: ScheduleSpec, after: float) -> int | None:
    """The first tick later than a moment; None where there is none any more."""
    return next(ticks(spec, after), None)


def latest_ticks(spec: ScheduleSpec, after: int, until: float, most: int) -> tuple[list[int], int]:
    """The last ticks of a time, however long it was.

    Args:
        spec: What they follow from.
        after: Ticks later than this,
        until: and not later than this.
        most: How many at most.

    Returns:
        They, in order, and how many there were at least before them.
    """
    last = min(until, LAST_MOMENT if spec.end_at is None else spec.end_at)
    found: list[int] = []
    for tick in islice(ticks(spec, after), _CHUNK + 1):
        if tick > last:
            break
        found.append(tick)
    if len(found) <= _CHUNK:
        kept = found[-most:] if most else []
        return kept, len(found) - len(kept)
    # Too many: most of them are of no use, so that the later half of what is left comes first.
    middle = (found[-1] + int(last)) // 2
    latest, _ = latest_ticks(spec, middle, last, most)
    if len(latest) < most and middle > found[-1]:
        earlier, _ = latest_ticks(spec, found[-1], middle, most - len(latest))
        latest = earlier + latest
    enough = max(len(found) - (most - len(latest)), 0)
    return found[enough:] + latest, enough


def due_at(schedule: Schedule, tick: int, following: float | None = None) -> float:
    """When a tick is due: with jitter so much later, always as much, and never behind the next tick.

    That one is computed, unless it is known as ``following``; infinite is none.
    """
    most = schedule.spec.jitter_sec
    if not most:
        return float(tick)
    if following is None:
        following = next_tick(schedule.spec, tick) or math.inf
    most = min(most, following - tick - 0.001)
    digest = hashlib.sha256(f"{schedule.key} {tick}".encode()).digest()
    return tick + round(most * int.from_bytes(digest[:6], "big") / 2**48, 3)


def check_cron(expression: str) -> str:
    """Return a crontab of five fields, or of six with the second first, in one spelling; ``@daily`` too.

    Raises:
        NotATiming: It is none, or never due.
    """
    expression = _NICKNAMES.get(expression.strip().lower(), expression)
    fields = expression.split()
    if len(expression) > MAX_EXPRESSION_CHARACTERS or len(fields) not in {5, 6}:
        raise NotATiming(
            "takes five fields (minute, hour, day of month, month, day of week), six with the second first, "
            f"or one of {', '.join(_NICKNAMES)}, not {expression[:40]!r}"
        )
    text = " ".join(fields)
    if _next_on_wall(text, datetime(2000, 1, 1)) is None:  # noqa: DTZ001
        raise NotATiming(f"{text!r} is never due")
    return text


def plain_rrule(text: str) -> str:
    """A recurrence rule in one spelling."""
    return text.strip().upper().removeprefix("RRULE:")


def check_rrule(text: str, *, anchor: int, timezone: str) -> str:
    """Return a recurrence rule (RFC 5545) in one spelling.

    It may take a second or two of processor to find that one is never due.

    Raises:
        NotATiming: It is none, never due, or has steps shorter than a day.
    """
    rule = plain_rrule(text)
    if len(rule) > MAX_EXPRESSION_CHARACTERS or re.search(r"[\s:]", rule):
        raise NotATiming("takes one rule such as FREQ=WEEKLY;BYDAY=MO; when it begins is start_at")
    parts = _parts_of(rule)
    if parts.get("FREQ") not in _STEPS:
        raise NotATiming(
            f"FREQ is one of {', '.join(sorted(_STEPS))}; shorter steps are every_sec or cron"
        )
    for name in ("INTERVAL", "COUNT"):
        number = parts.get(name, "1")
        if not (number.isascii() and number.isdigit() and 1 <= int(number[:9]) <= 100_000):
            raise NotATiming(f"{name} is a whole number from 1 to 100000, not {number[:40]!r}")
    if parts.get("INTERVAL", "1") != "1" and int(parts["INTERVAL"]) > 1_000:
        raise NotATiming("INTERVAL is at most 1000")
    _check_parts(parts)
    if next(_by_rule(rule, anchor, timezone, anchor - 1), None) is None:
        raise NotATiming(f"{rule!r} is never due")
    return rule


def _parts_of(rule: str) -> dict[str, str]:
    parts: dict[str, str] = {}
    for part in filter(None, rule.split(";")):
        name, _, parts[name] = part.partition("=")
    return parts


def _check_parts(parts: Mapping[str, str]) -> None:
    times = 1
    for name, text in parts.items():
        values = text.split(",")
        if name == "BYSETPOS" and len(values) > _MOST_POSITIONS:
            raise NotATiming(f"BYSETPOS takes at most {_MOST_POSITIONS} numbers, not {len(values)}")
        if name in _RANGES:
            least, most, signed = _RANGES[name]
            for value in values:
                digits = value.removeprefix("+").removeprefix("-") if signed else value
                if not (re.fullmatch("[0-9]{1,3}", digits) and least <= int(digits) <= most):
                    sign = ", or negative" if signed else ""
                    raise NotATiming(
                        f"{name} takes numbers from {least} to {most}{sign}, not {value[:40]!r}"
                    )
            if name in {"BYHOUR", "BYMINUTE", "BYSECOND"}:
                times *= len(set(values))
        elif name == "BYDAY":
            most = 53 if parts["FREQ"] == "YEARLY" and "BYMONTH" not in parts else 5
            for value in values:
                found = _BYDAY.fullmatch(value)
                if found is None or not (found[1] is None or 1 <= abs(int(found[1])) <= most):
                    raise NotATiming(
                        f"BYDAY takes days such as MO, and 1MO to {most}MO, not {value[:40]!r}"
                    )
        elif name not in _OTHER_PARTS:
            raise NotATiming(f"there is no part {name[:40]!r}")
    if times > _MOST_TIMES_OF_DAY:
        raise NotATiming(
            f"a day has {times} times, and may have {_MOST_TIMES_OF_DAY}; "
            "shorter steps are every_sec or cron"
        )


def local_time(moment: float, timezone: str) -> datetime:
    """A moment as clocks of a zone show it; raises as `zone_of`."""
    return datetime.fromtimestamp(moment, zone_of(timezone))


def of_wall_clock(wall: datetime, timezone: str) -> int:
    """The moment at which clocks of a zone show a time; skipped and repeated ones as in the module's text."""
    return _localised(int((wall - _EPOCH).total_seconds()), zone_of(timezone))


def _all(spec: ScheduleSpec, after: int) -> Iterator[int]:
    if spec.cron is not None:
        return _by_cron(spec.cron, spec.timezone, after)
    if spec.rrule is not None:
        return _by_rule(spec.rrule, spec.anchor_at, spec.timezone, after)
    if spec.every_sec is not None:
        return _by_interval(spec.every_sec, spec.start_at or 0, after)
    moments = spec.at or []
    return iter(moments[bisect.bisect_right(moments, after) :])


def _by_interval(step: int, origin: int, after: int) -> Iterator[int]:
    tick = origin + max((after - origin) // step + 1, 0) * step
    while tick < LAST_MOMENT:
        yield tick
        tick += step


def _by_rule(text: str, anchor: int, timezone: str, after: int) -> Iterator[int]:
    zone = zone_of(timezone)
    # A day earlier: a repeated hour has the same times twice.
    begin = _wall(max(after, anchor) - _DAY, zone)
    rule = _rule(text, _nearer(text, _wall(anchor, zone), begin), timezone)
    last = after
    for wall in rule.xafter(begin + _CYCLES, inc=True):
        tick = _localised(int((wall - _CYCLES - _EPOCH).total_seconds()), zone)
        if tick >= LAST_MOMENT:
            return
        if tick > last:
            last = tick
            yield tick


def _nearer(text: str, anchor: datetime, moment: datetime) -> datetime:
    """A beginning from which a rule goes on as from its own, not long before a moment.

    All that lies between its beginning and what is looked for is walked through, years of it for an old one.
    """
    parts = _parts_of(text)
    if "COUNT" in parts:
        return anchor
    interval = int(parts.get("INTERVAL", "1"))
    days = (moment - anchor).days
    match parts["FREQ"]:
        case "DAILY" | "WEEKLY" as step:
            period = interval * (7 if step == "WEEKLY" else 1)
            periods = max(days // period - 1, 0)
            # Not at each tick another one: rules that were read are kept.
            return anchor + timedelta(days=(periods - periods % 16) * period)
        case "MONTHLY" if anchor.day <= 28:
            periods = max(days // (31 * interval) - 1, 0)
            months = anchor.month - 1 + periods * interval
            return anchor.replace(year=anchor.year + months // 12, month=months % 12 + 1)
        case _:
            year = anchor.year + max(days // (366 * interval) - 1, 0) * interval
            while (anchor.month, anchor.day) == (2, 29) and not isleap(year):
                year -= interval
            return anchor.replace(year=year)


@lru_cache(maxsize=256)
def _rule(text: str, first: datetime, timezone: str) -> rrule:
    """A rule that begins at ``first``, so many cycles of the calendar later (see `_CYCLES`)."""
    zone = zone_of(timezone)

    def later(found: re.Match[str]) -> str:
        until = parse_date(found[1])
        if until.year > _LAST_DAY.year:
            until = _LAST_DAY
        elif until.tzinfo is not None:
            until = until.astimezone(zone).replace(tzinfo=None)
        return f"UNTIL={until + _CYCLES:%Y%m%dT%H%M%S}"

    try:
        rule = rrulestr(_UNTIL.sub(later, text), dtstart=first + _CYCLES)
    except (ValueError, TypeError, KeyError, IndexError, OverflowError) as error:
        raise NotATiming(f"{text!r} is no recurrence rule: {error}") from None
    if not isinstance(rule, rrule):
        raise NotATiming(f"{text!r} is no single recurrence rule")
    return rule


def _by_cron(expression: str, timezone: str, after: int) -> Iterator[int]:
    zone = zone_of(timezone)
    *_, minute, hour, _, _, _ = expression.split()
    passing = minute.startswith("*") or hour.startswith("*")
    last = after
    while True:
        tick = (_next_passing if passing else _next_of_day)(expression, zone, last)
        if tick is None or tick >= LAST_MOMENT:
            return
        last = tick
        yield tick


def _next_of_day(expression: str, zone: ZoneInfo, after: int) -> int | None:
    """The first tick later than a moment of a crontab that names times of day."""
    wall: datetime | None = _wall(after, zone)
    while (wall := _next_on_wall(expression, wall)) is not None:
        tick = _localised(int((wall - _EPOCH).total_seconds()), zone)
        if tick > after:
            return tick
    return None


def _next_passing(expression: str, zone: ZoneInfo, after: int) -> int | None:
    """The first tick later than a moment of a crontab that goes by the time that passes.

    Between two changes of the offset the wall clock goes as time does: it is walked from change to change.
    """
    at, offset = after, _offset(after, zone)
    while True:
        wall = _next_on_wall(expression, _EPOCH + timedelta(seconds=at + offset))
        if wall is None:
            return None
        tick = int((wall - _EPOCH).total_seconds()) - offset
        # No change matters that is more than a day away: what is shown then was not shown before.
        near = min(tick, at + _DAY)
        change = _first_change(at, near, offset, zone)
        if change is not None:
            at, offset = change - 1, _offset(change, zone)
        elif tick <= near:
            return tick
        else:
            at = max(near, tick - 2 * _DAY)
            offset = _offset(at, zone)


def _first_change(after: int, until: int, offset: int, zone: ZoneInfo) -> int | None:
    """The first moment of a time within a day at which the offset is another."""
    if after >= until or _offset(until, zone) == offset:
        return None
    low, high = after, until
    while high - low > 1:
        middle = (low + high) // 2
        if _offset(middle, zone) == offset:
            low = middle
        else:
            high = middle
    return high


def _next_on_wall(expression: str, wall: datetime | None) -> datetime | None:
    try:
        return next(CronSim(expression, wall or _EPOCH), None)
    except CronSimError as error:
        raise NotATiming(_why_no_crontab(expression, str(error).removeprefix("Bad "))) from None
    except OverflowError as error:
        raise NotATiming(f"{expression!r} is no crontab: {error}") from None


def _why_no_crontab(expression: str, bad: str) -> str:
    """What is wrong with a crontab.

    Args:
        expression: The crontab, of five or six fields.
        bad: The field that cronsim names: that of the day also where it is right and no month has such a day.
    """
    fields = expression.split()
    said = dict(zip(reversed(_CRON_FIELDS), reversed(fields), strict=False))
    days = said["day-of-month"]
    if bad == "day-of-month" and _is_crontab(f"* * {days} * *"):
        return f"{expression!r} is never due: month {said['month']} has no day {days}"
    takes = f"{bad} takes {_CRON_FIELDS[bad]}, lists, ranges and steps of them, not {said[bad]!r}"
    return f"{expression!r} is no crontab: {takes}"


def _is_crontab(expression: str) -> bool:
    try:
        CronSim(expression, _EPOCH)
    except CronSimError:
        return False
    return True


def _wall(moment: int, zone: ZoneInfo) -> datetime:
    return _EPOCH + timedelta(seconds=moment + _offset(moment, zone))


def _offset(moment: int, zone: ZoneInfo) -> int:
    offset = datetime.fromtimestamp(moment, zone).utcoffset()
    return 0 if offset is None else round(offset.total_seconds())


def _localised(wall: int, zone: ZoneInfo) -> int:
    """The moment of a time of day; the first of two, and the end of the gap for one that is skipped."""
    shown = (_EPOCH + timedelta(seconds=wall)).replace(tzinfo=zone)
    before = shown.replace(fold=0).utcoffset()
    after = shown.replace(fold=1).utcoffset()
    assert before is not None
    assert after is not None
    if after <= before:  # there once, or twice: then the first time has the larger offset
        return wall - round(before.total_seconds())
    # In a gap: fold 0 reads it by the offset before, and so behind the change (PEP 495).
    late, early = wall - round(before.total_seconds()), wall - round(after.total_seconds())
    change = _first_change(early - 1, late, round(before.total_seconds()), zone)
    return late if change is None else change
