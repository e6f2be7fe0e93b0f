"""What a schedule writes into the params of its runs: ``{{scheduled_at}}`` and the like.

Only texts are looked at, at any depth, and each once: what was put in is never read again, and nothing is
evaluated. A text that is nothing but ``{{scheduled_unix}}`` becomes a number. ``{{{{`` stands for ``{{``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC
from typing import Any, Final

from pyoco_server.model.names import nearest
from pyoco_server.model.schedules.ticks import local_time

PLACEHOLDERS: Final = (
    "scheduled_at",
    "scheduled_at_utc",
    "scheduled_date",
    "scheduled_time",
    "scheduled_unix",
    "schedule_id",
    "schedule_name",
    "timezone",
)

_FOUND: Final = re.compile(r"\{\{\{\{|\{\{([^{}]*)\}\}")


class UnknownPlaceholder(ValueError):
    """A text asks for something that no schedule knows."""


def values_of(schedule_id: str, name: str, timezone: str, tick: int) -> Mapping[str, str | int]:
    """What the placeholders of a tick stand for."""
    shown = local_time(tick, timezone)
    return {
        "scheduled_at": shown.isoformat(),
        "scheduled_at_utc": shown.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "scheduled_date": shown.date().isoformat(),
        "scheduled_time": shown.strftime("%H:%M:%S"),
        "scheduled_unix": tick,
        "schedule_id": schedule_id,
        "schedule_name": name,
        "timezone": timezone,
    }


def check_placeholders(params: Any) -> None:
    """Look at all texts of params.

    Raises:
        UnknownPlaceholder: One asks for something else than `PLACEHOLDERS`.
    """

    def check(text: str) -> str:
        for found in _FOUND.finditer(text):
            name = _name_in(found)
            if name is not None and name not in PLACEHOLDERS:
                near = nearest(name, PLACEHOLDERS)
                meant = (
                    f"did you mean {near!r}?" if near else f"there are {', '.join(PLACEHOLDERS)}"
                )
                raise UnknownPlaceholder(
                    f"{found[0][:80]!r} stands for nothing; {meant} (write '{{{{{{{{' for '{{{{')"
                )
        return text

    _each_text(params, check)


def fill_in(params: Any, values: Mapping[str, str | int]) -> Any:
    """Return params with what the placeholders stand for; what is unknown stays as it is."""

    def fill(text: str) -> Any:
        whole = _FOUND.fullmatch(text)
        name = None if whole is None else _name_in(whole)
        if name is not None and name in values:
            return values[name]
        return _FOUND.sub(put, text)

    def put(found: re.Match[str]) -> str:
        name = _name_in(found)
        return "{{" if name is None else str(values.get(name, found[0]))

    return _each_text(params, fill)


def _name_in(found: re.Match[str]) -> str | None:
    """What a place asks for; None where it stands for two braces."""
    return None if found[1] is None else found[1].strip()


def _each_text(value: Any, change: Callable[[str], Any]) -> Any:
    match value:
        case str():
            return change(value) if "{{" in value else value
        case dict():
            return {name: _each_text(item, change) for name, item in value.items()}
        case list() | tuple():
            return [_each_text(item, change) for item in value]
        case _:
            return value
