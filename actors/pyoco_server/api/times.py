"""When runs may start, until when, and by when that is expected: as calls say it."""

from __future__ import annotations

from typing import Annotated, Any, Final, TypeAlias

import msgspec
from msgspec import Meta

from pyoco_server.api.base import JsonBody, number, says
from pyoco_server.model.timing import MAX_AHEAD_SECONDS

_MOST: Final = {"type": "number", "maximum": MAX_AHEAD_SECONDS}
SPAN: Final = {**_MOST, "exclusiveMinimum": 0}


def _moment(description: str) -> Meta:
    """Unix seconds, or an ISO 8601 time with its zone."""
    moment = [{"type": "number"}, {"type": "string", "format": "moment", "minLength": 1}]
    not_set = [{"type": "string", "maxLength": 0}, {"type": "null"}]
    more = " Unix seconds, or an ISO 8601 time with its zone; at most 366 days ahead."
    return says(description + more, anyOf=[*moment, *not_set])


StartAt: TypeAlias = Annotated[Any, _moment("Not to be started before; the past means now.")]
DelaySec: TypeAlias = Annotated[Any, number("The same, from now.", **_MOST, minimum=0)]
ExpiresAt: TypeAlias = Annotated[Any, _moment("Not to be started then or later.")]
QueueTtlSec: TypeAlias = Annotated[Any, number("The same, from when it may start.", **SPAN)]
ExpectedStartWithinSec: TypeAlias = Annotated[
    Any, number("Late where it has not started so long after it may.", **SPAN)
]
ExpectedEndWithinSec: TypeAlias = Annotated[
    Any, number("Late where it has not ended so long after it may start.", **SPAN)
]


class MoveBody(JsonBody, kw_only=True):
    """The body of `PATCH /runs/{run_id}`."""

    start_at: StartAt = None
    delay_sec: DelaySec = None
    expires_at: ExpiresAt = None
    queue_ttl_sec: QueueTtlSec = None


class TimesBody(MoveBody, kw_only=True):
    """When a new run may start, until when, and by when that is expected."""

    expected_start_within_sec: ExpectedStartWithinSec = None
    expected_end_within_sec: ExpectedEndWithinSec = None


class RetryBody(TimesBody, kw_only=True):
    """The body of `POST /runs/{run_id}/retry`: what the new run has that the other one had not."""

    params: Annotated[dict[str, Any], says("They go over those of the run that is repeated.")] = (
        msgspec.field(default_factory=dict)
    )
