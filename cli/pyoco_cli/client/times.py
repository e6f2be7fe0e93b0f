"""The options for when a run may start, until when, and by when that is expected."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final, TypeAlias, TypedDict

import typer

from pyoco_cli.common.moments import span

_MOMENT: Final = "an ISO 8601 time (of this machine where it names no zone) or unix seconds"
_SPAN: Final = "seconds, or a span such as 90s, 2h or 1d 12h"


def coming(text: str) -> float:
    """Return a moment in unix seconds.

    Raises:
        ValueError: It is none.
    """
    try:
        return float(text)
    except ValueError:
        return datetime.fromisoformat(text.strip()).astimezone().timestamp()


def _moment(text: str) -> float:
    try:
        return coming(text)
    except (ValueError, OverflowError):
        raise typer.BadParameter(f"{text[:80]!r} is no time; it takes {_MOMENT}") from None


def _span(text: str) -> float:
    found = span(text.strip())
    try:
        return float(text) if found is None else found
    except ValueError:
        raise typer.BadParameter(f"{text[:80]!r} is no span; it takes {_SPAN}") from None


def _option(name: str, help: str, *, of_time: bool = False) -> Any:  # noqa: A002 - as Typer has it
    names = [name] if of_time else [name, f"{name}-sec"]
    parser, metavar = (_moment, "TIME") if of_time else (_span, "SPAN")
    return typer.Option(*names, parser=parser, metavar=metavar, help=help)


QueueTtl: TypeAlias = Annotated[
    float | None, _option("--queue-ttl", "Not to start so long after it may, or later: 90s, 2h.")
]
StartWithin: TypeAlias = Annotated[
    float | None,
    _option("--expected-start-within", "Late where it has not started so long after it may."),
]
EndWithin: TypeAlias = Annotated[
    float | None,
    _option("--expected-end-within", "Late where it has not ended so long after it may start."),
]


class MoveOptions(TypedDict):
    """When a run may start, and until when."""

    start_at: Annotated[
        float | None, _option("--start-at", "Not to start before: ISO 8601, unix.", of_time=True)
    ]
    delay_sec: Annotated[
        float | None, _option("--delay", "Not to start before so long from now: 90s, 2h.")
    ]
    expires_at: Annotated[
        float | None, _option("--expires-at", "Not to start then or later.", of_time=True)
    ]
    queue_ttl_sec: QueueTtl


class TimeOptions(MoveOptions):
    """Those, and by when that is expected."""

    expected_start_within_sec: StartWithin
    expected_end_within_sec: EndWithin
