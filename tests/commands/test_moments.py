"""Points in time as people write them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from typer.testing import CliRunner

from pyoco_cli.client import main
from pyoco_cli.client.app import app
from pyoco_cli.client.times import coming
from pyoco_cli.common.moments import moment, span

NOW = datetime(2026, 3, 2, 12, 30, tzinfo=UTC).timestamp()


@pytest.fixture(autouse=True)
def tokyo(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("text", "utc"),
    [
        ("now", "2026-03-02T12:30:00"),
        ("30s", "2026-03-02T12:29:30"),
        ("90min", "2026-03-02T11:00:00"),
        ("90m ago", "2026-03-02T11:00:00"),
        ("1d", "2026-03-01T12:30:00"),
        ("1d12h", "2026-03-01T00:30:00"),
        ("1d 12h ago", "2026-03-01T00:30:00"),
        ("1.5h", "2026-03-02T11:00:00"),
        ("2w", "2026-02-16T12:30:00"),
        ("today", "2026-03-01T15:00:00"),
        ("yesterday", "2026-02-28T15:00:00"),
        ("yesterday 22:00", "2026-03-01T13:00:00"),
        ("yesterdayT22:00", "2026-03-01T13:00:00"),
        ("today 9:05:06", "2026-03-02T00:05:06"),
        ("20:00", "2026-03-02T11:00:00"),
        ("2026-03-01", "2026-02-28T15:00:00"),
        ("2026-03-01 10:00", "2026-03-01T01:00:00"),
        ("2026-03-01T10:00:00", "2026-03-01T01:00:00"),
        ("2026-03-01T10:00:00Z", "2026-03-01T10:00:00"),
        ("2026-03-01T10:00:00+02:00", "2026-03-01T08:00:00"),
        (" 0 ", "1970-01-01T00:00:00"),
        ("1772368200.5", "2026-03-01T12:30:00.500000"),
        ("-1", "1969-12-31T23:59:59"),
    ],
)
def test_a_time(text: str, utc: str) -> None:
    assert datetime.fromtimestamp(moment(text, NOW), UTC).isoformat() == f"{utc}+00:00"


@pytest.mark.parametrize(
    "text", ["", "soon", "1x", "d", "yesterday 25:00", "22:60", "2026-13-01", "nan", "inf", "ago"]
)
def test_no_time(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        moment(text, NOW)


def test_a_span() -> None:
    assert [span(text) for text in ("30d", "1h30m", "12", "soon")] == [2_592_000, 5400, None, None]


def test_what_is_no_time_is_told_with_what_would_be(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "--since", "soon"]) == 1
    told = capsys.readouterr().err
    assert "--updated-after" in told
    assert "'soon' is no time; it takes a span back (90s, 2h, 1d), today, yesterday" in told


@pytest.mark.parametrize(
    ("begin", "end"),
    [
        ("--since", "--until"),
        ("--submitted-after", "--submitted-before"),
        ("--scheduled-after", "--scheduled-before"),
    ],
)
def test_a_time_that_ends_before_it_begins_is_refused(
    begin: str, end: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["list", begin, "1h", end, "2h"]) == 1
    told = capsys.readouterr()
    assert told.out == ""
    assert f"{begin} is later than {end}" in told.err


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("1800000000", 1_800_000_000.0),
        ("2027-01-15T08:00:00Z", 1_800_000_000.0),
        (" 2027-01-15T17:00:00+09:00 ", 1_800_000_000.0),
    ],
)
def test_a_moment_to_come(text: str, moment: float) -> None:
    assert coming(text) == moment


def test_a_moment_without_a_zone_is_of_this_machine() -> None:
    assert coming("2027-01-15T17:00:00") == 1_800_000_000.0


@pytest.mark.parametrize(
    ("option", "value"),
    [("--start-at", "soon"), ("--delay", "a while"), ("--queue-ttl", "1 fortnight")],
)
def test_what_is_no_time_is_refused_by_name(option: str, value: str) -> None:
    done = CliRunner().invoke(app, ["reschedule", "r", option, value])
    assert done.exit_code == 2
    assert option in done.stderr
    assert value in done.stderr
