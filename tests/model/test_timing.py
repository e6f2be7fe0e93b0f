"""What a submission may ask of time, and what it is told where that cannot be."""

from __future__ import annotations

from typing import Any

import pytest

from pyoco_server.model.errors import InvalidField
from pyoco_server.model.timing import MAX_AHEAD_SECONDS, NO_TIMING, Timing, check_timing

NOW = 1_800_000_000.0  # 2027-01-15T08:00:00Z


@pytest.mark.parametrize(
    ("asked", "due"),
    [
        ({"start_at": NOW + 5}, NOW + 5),
        ({"start_at": str(NOW + 5)}, NOW + 5),
        ({"start_at": "2027-01-15T08:00:05Z"}, NOW + 5),
        ({"start_at": " 2027-01-15T17:00:05.5+09:00 "}, NOW + 5.5),
        ({"delay_sec": 7}, NOW + 7),
        ({"delay_sec": "7.5"}, NOW + 7.5),
        # What has passed means now, and so does no wait.
        ({"start_at": NOW}, None),
        ({"start_at": NOW - 1e6}, None),
        ({"start_at": -5}, None),
        ({"start_at": "1999-12-31T00:00:00Z"}, None),
        ({"delay_sec": 0}, None),
        ({}, None),
        ({"start_at": None, "delay_sec": ""}, None),
        ({"start_at": NOW + MAX_AHEAD_SECONDS}, NOW + MAX_AHEAD_SECONDS),
    ],
)
def test_when_a_run_may_start(asked: dict[str, Any], due: float | None) -> None:
    assert check_timing(NOW, **asked).due(NOW) == due


@pytest.mark.parametrize(
    ("asked", "expiry"),
    [
        ({"expires_at": NOW + 5}, NOW + 5),
        ({"expires_at": NOW - 5}, NOW - 5),
        ({"queue_ttl_sec": 5}, NOW + 5),
        # The wait in the queue begins when the run may start.
        ({"queue_ttl_sec": 5, "delay_sec": 10}, NOW + 15),
        ({"queue_ttl_sec": 5, "start_at": NOW + 20}, NOW + 25),
        ({"queue_ttl_sec": 5, "start_at": NOW - 20}, NOW + 5),
        ({"delay_sec": 10}, None),
    ],
)
def test_until_when_it_may(asked: dict[str, Any], expiry: float | None) -> None:
    assert check_timing(NOW, **asked).expiry(NOW) == expiry


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"start_at": "soon"}, "start_at"),
        ({"start_at": "2027-01-15T08:00:05"}, "start_at"),  # in which zone?
        ({"start_at": "2027-13-15T08:00:05Z"}, "start_at"),
        ({"start_at": float("nan")}, "start_at"),
        ({"start_at": "inf"}, "start_at"),
        ({"start_at": True}, "start_at"),
        ({"start_at": [NOW]}, "start_at"),
        ({"start_at": NOW * 1000}, "start_at"),  # milliseconds
        ({"start_at": 10**400}, "start_at"),
        ({"start_at": "9" * 1000}, "start_at"),
        ({"start_at": NOW + MAX_AHEAD_SECONDS + 1}, "start_at"),
        ({"expires_at": "9999-12-31T23:59:59Z"}, "expires_at"),
        ({"expires_at": {}}, "expires_at"),
        ({"delay_sec": -1}, "delay_sec"),
        ({"delay_sec": "1h"}, "delay_sec"),
        ({"delay_sec": MAX_AHEAD_SECONDS + 1}, "delay_sec"),
        ({"delay_sec": False}, "delay_sec"),
        ({"queue_ttl_sec": 0}, "queue_ttl_sec"),
        ({"expected_start_within_sec": 0}, "expected_start_within_sec"),
        ({"expected_end_within_sec": float("inf")}, "expected_end_within_sec"),
        ({"start_at": NOW + 1, "delay_sec": 1}, "delay_sec"),
        ({"expires_at": NOW + 1, "queue_ttl_sec": 1}, "queue_ttl_sec"),
        ({"start_at": NOW + 9, "expires_at": NOW + 9}, "expires_at"),
        ({"delay_sec": 9, "expires_at": NOW + 8}, "expires_at"),
    ],
)
def test_what_cannot_be_is_refused_by_name(asked: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidField) as refused:
        check_timing(NOW, **asked)
    assert refused.value.field == field
    assert len(str(refused.value)) < 200


def test_what_asks_for_nothing_costs_nothing() -> None:
    assert check_timing(NOW, start_at=None, delay_sec="") is NO_TIMING


def test_times_go_over_others() -> None:
    earlier = Timing(expected_end_within_sec=9.0, expected_start_within_sec=3.0)
    over = Timing(delay_sec=1.0, expected_end_within_sec=5.0).over(earlier)
    assert over == Timing(delay_sec=1.0, expected_start_within_sec=3.0, expected_end_within_sec=5.0)
