"""What somebody wrote of a schedule, field by field: in one spelling, or refused with what would be right."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, TypeVar

from msgspec.structs import replace

from pyoco_server.model.errors import InvalidField
from pyoco_server.model.job import InvalidTag, check_tag
from pyoco_server.model.json_text import NestedTooDeeply, NotJson, check_json, safe_repr
from pyoco_server.model.limits import LIMIT_FIELDS, check_limits, limits_in
from pyoco_server.model.schedules.params import UnknownPlaceholder, check_placeholders
from pyoco_server.model.schedules.schedule import (
    DEFAULT_CATCH_UP,
    MAX_CATCH_UP,
    MAX_LABELS,
    MAX_MOMENTS,
    MAX_TEXT,
    TIMING_FIELDS,
    CatchUp,
    Overlap,
    ScheduleSpec,
)
from pyoco_server.model.schedules.ticks import (
    LAST_MOMENT,
    NotATiming,
    check_cron,
    check_rrule,
    of_wall_clock,
    plain_rrule,
    zone_of,
)
from pyoco_server.model.timing import SPAN_FIELDS, check_timing

E = TypeVar("E", bound=StrEnum)

_NO_ZONES: Final = ("localtime", "posixrules", "Factory")
"""What systems keep among time zones: other names of the machine's own, and a placeholder. Those below
``right`` count leap seconds, which unix seconds leave out."""
_LABEL: Final = re.compile(r"[A-Za-z0-9_./-]{1,63}")


def read_spec(
    fields: Mapping[str, Any],
    *,
    default_tag: str,
    now: float,
    before: ScheduleSpec | None = None,
) -> ScheduleSpec:
    """Make a spec of what somebody wrote, each field in one spelling.

    It may take seconds (see `check_rrule`).

    Args:
        fields: Those of `ScheduleSpec` but ``anchor_at``; a moment may be unix seconds, a date and time with
            its offset, or one of the clocks of the schedule's zone.
        default_tag: Where runs go if nothing is said.
        now: Unix seconds.
        before: What it is to replace: a rule that stays goes on from where it began.

    Raises:
        InvalidField: Something is wrong in it.
    """
    read = _SpecFields(fields)
    timezone = read.zone()
    start, end = read.moment("start_at", timezone), read.moment("end_at", timezone)
    if start is not None and end is not None and end < start:
        raise InvalidField("end_at", "is before start_at")
    anchor = read.beginning(now, timezone, before) if start is None else start
    spec = ScheduleSpec(
        flow_name=read.text("flow_name", None),
        name=read.text("name", ""),
        tag=read.tag(default_tag),
        tags=read.texts("tags"),
        params=read.params(),
        workflow_yaml_sha256=fields.get("workflow_yaml_sha256"),
        workflow_yaml_bytes=fields.get("workflow_yaml_bytes"),
        timezone=timezone,
        jitter_sec=read.number("jitter_sec", 0.0, 0.0, 86_400.0),
        start_at=start,
        end_at=end,
        overlap=read.member("overlap", Overlap, Overlap.SKIP),
        catch_up=read.member("catch_up", CatchUp, CatchUp.LAST),
        catch_up_limit=int(read.whole("catch_up_limit", 1, MAX_CATCH_UP) or DEFAULT_CATCH_UP),
        labels=read.labels(),
        anchor_at=anchor,
        **read.limits(),
        **read.spans(),
    )
    return replace(spec, **read.timing(timezone, anchor))


class _SpecFields:
    """What somebody wrote, field by field."""

    def __init__(self, fields: Mapping[str, Any]) -> None:
        self._fields = fields

    def _given(self, name: str) -> Any:
        value = self._fields.get(name)
        return None if isinstance(value, str) and not value.strip() else value

    def text(self, name: str, default: str | None) -> str:
        value = self._given(name)
        if value is None:
            if default is None:
                raise InvalidField(name, "is missing")
            return default
        if not isinstance(value, str) or not value.strip() or len(value) > MAX_TEXT:
            raise InvalidField(
                name, f"takes 1 to {MAX_TEXT} characters, not {safe_repr(value)[:80]}"
            )
        return value.strip()

    def texts(self, name: str) -> list[str]:
        value = self._given(name)
        if value is None:
            return []
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise InvalidField(name, f"takes a list of texts, not {safe_repr(value)[:80]}")
        return list(value)

    def tag(self, default: str) -> str:
        try:
            return check_tag(self.text("tag", default))
        except InvalidTag as error:
            raise InvalidField("tag", str(error)) from None

    def params(self) -> dict[str, Any]:
        value = self._given("params")
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise InvalidField("params", f"takes an object, not {type(value).__name__}")
        try:
            check_json(value)
            check_placeholders(value)
        except (NotJson, NestedTooDeeply, UnknownPlaceholder) as error:
            raise InvalidField("params", str(error)) from None
        return value

    def zone(self) -> str:
        name = self.text("timezone", "UTC")
        try:
            zone_of(name)
            known = name not in _NO_ZONES and not name.startswith("right/")
        except NotATiming:
            known = False
        if not known:
            raise InvalidField(
                "timezone",
                f"takes the name of an IANA time zone such as Europe/Berlin, not {name!r}",
            )
        return name

    def number(self, name: str, default: float, least: float, most: float) -> float:
        value = self._given(name)
        if value is None:
            return default
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not least <= value <= most
        ):
            raise InvalidField(
                name, f"takes seconds from {least:g} to {most:g}, not {safe_repr(value)[:80]}"
            )
        return float(value)

    def whole(self, name: str, least: int, most: int) -> int | None:
        value = self._given(name)
        return None if value is None else read_whole(name, value, least, most)

    def member(self, name: str, kind: type[E], default: E) -> E:
        value = self._given(name)
        if value is None:
            return default
        try:
            return kind(value)
        except ValueError:
            words = ", ".join(kind)
            raise InvalidField(name, f"takes one of {words}, not {safe_repr(value)[:80]}") from None

    def labels(self) -> dict[str, str]:
        value = self._given("labels")
        if value is None:
            return {}
        right = isinstance(value, dict) and len(value) <= MAX_LABELS
        if not right or not all(
            isinstance(key, str)
            and isinstance(text, str)
            and _LABEL.fullmatch(key)
            and len(text) <= MAX_TEXT
            for key, text in value.items()
        ):
            raise InvalidField(
                "labels",
                f"takes at most {MAX_LABELS} texts of at most {MAX_TEXT} characters by name; a name has 1 to "
                "63 of the characters A-Z a-z 0-9 _ . / -",
            )
        return dict(value)

    def limits(self) -> dict[str, Any]:
        return limits_in(check_limits(**{name: self._given(name) for name in LIMIT_FIELDS}))

    def spans(self) -> dict[str, Any]:
        asked = check_timing(0.0, **{name: self._given(name) for name in SPAN_FIELDS})
        return {name: getattr(asked, name) for name in SPAN_FIELDS}

    def moment(self, name: str, timezone: str) -> int | None:
        value = self._given(name)
        return None if value is None else read_moment(name, value, timezone)

    def beginning(self, now: float, timezone: str, before: ScheduleSpec | None) -> int:
        """When an interval or a rule begins that is not told: in a second, where it counts its ticks.

        One of now is over before it is seen to, and would be one of those that it counts.
        """
        said = self._given("rrule")
        rule = plain_rrule(said) if isinstance(said, str) else None
        if before is not None and (rule, timezone) == (before.rrule, before.timezone):
            return before.anchor_at
        return int(now) + ("COUNT=" in (rule or ""))

    def timing(self, timezone: str, anchor: int) -> dict[str, Any]:
        given = [name for name in TIMING_FIELDS if self._given(name) is not None]
        if len(given) != 1:
            said = " and ".join(given) or "none of them"
            raise InvalidField(
                given[-1] if given else "cron",
                f"give one of {', '.join(TIMING_FIELDS)}, not {said}",
            )
        (name,) = given
        try:
            match name:
                case "cron":
                    return {name: check_cron(self._expression(name))}
                case "rrule":
                    text = self._expression(name)
                    return {name: check_rrule(text, anchor=anchor, timezone=timezone)}
                case "every_sec":
                    return {name: self.whole(name, 1, 366 * 86_400)}
                case _:
                    return {name: self._moments(timezone)}
        except NotATiming as error:
            raise InvalidField(name, str(error)) from None

    def _expression(self, name: str) -> str:
        value = self._given(name)
        if not isinstance(value, str):
            raise InvalidField(name, f"takes a text, not {type(value).__name__}")
        return value

    def _moments(self, timezone: str) -> list[int]:
        value = self._given("at")
        if not isinstance(value, list) or not 1 <= len(value) <= MAX_MOMENTS:
            raise InvalidField("at", f"takes a list of 1 to {MAX_MOMENTS} moments")
        return sorted({read_moment("at", item, timezone) for item in value})


def read_whole(field: str, value: Any, least: int, most: int) -> int:
    """A whole number that somebody wrote.

    Raises:
        InvalidField: It is none, or out of its range.
    """
    right = isinstance(value, int | float) and not isinstance(value, bool)
    if not right or value != value // 1 or not least <= value <= most:
        raise InvalidField(
            field, f"takes a whole number from {least} to {most}, not {safe_repr(value)[:80]}"
        )
    return int(value)


def read_moment(field: str, value: Any, timezone: str) -> int:
    """A moment that somebody wrote, in unix seconds.

    Raises:
        InvalidField: It is none.
    """
    takes = (
        "takes unix seconds, a date and time with its offset such as 2026-12-01T09:00:00+09:00, or one of "
        "the schedule's time zone, in whole seconds"
    )
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value.strip())
        except ValueError:
            raise InvalidField(field, f"{takes}; not {value[:80]!r}") from None
    if isinstance(value, datetime):
        if value.microsecond:
            raise InvalidField(field, f"{takes}; not {value.isoformat()}")
        if value.tzinfo is None:
            moment: float = of_wall_clock(value, timezone)
        else:
            moment = value.timestamp()
    elif isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidField(field, f"{takes}; not {safe_repr(value)[:80]}")
    else:
        moment = value
    if not 0 <= moment < LAST_MOMENT or moment != moment // 1:
        raise InvalidField(field, f"{takes}, from 1970 to 2199; not {safe_repr(moment)[:80]}")
    return int(moment)
