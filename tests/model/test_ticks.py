"""When schedules are due: against cronsim, against a walk over every minute, and in words."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from functools import partial
from itertools import islice, pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim
from dateutil.rrule import rrulestr
from hypothesis import given
from hypothesis import strategies as st

from busyness import assert_cheap
from pyoco_server.model.schedules import ticks as ticks_module
from pyoco_server.model.schedules.schedule import ScheduleSpec
from pyoco_server.model.schedules.ticks import (
    NotATiming,
    check_cron,
    check_rrule,
    latest_ticks,
    local_time,
    next_tick,
    of_wall_clock,
    ticks,
)

ZONES = (
    "Africa/Cairo",
    "Africa/Casablanca",
    "America/Asuncion",
    "America/Havana",
    "America/Los_Angeles",
    "America/New_York",
    "America/Santiago",
    "America/Sao_Paulo",
    "America/St_Johns",
    "Asia/Beirut",
    "Asia/Gaza",
    "Asia/Kolkata",
    "Asia/Tokyo",
    "Australia/Lord_Howe",
    "Australia/Sydney",
    "Europe/Berlin",
    "Europe/Dublin",
    "Europe/London",
    "Pacific/Auckland",
    "UTC",
)
FIRST, LAST = (int(datetime(year, 1, 1, tzinfo=UTC).timestamp()) for year in (1995, 2035))
DAY = 86_400


class When(ScheduleSpec, frozen=True, kw_only=True):
    flow_name: str = "f"


@pytest.mark.parametrize(
    "fields",
    [
        {"cron": "0 0 * * *", "timezone": "Mars/X"},
        {"cron": "0 0 * * *", "timezone": "Europe"},
        {"cron": "0 0 * * *", "timezone": "/etc/passwd"},
        {"cron": "a crontab of later versions"},
        {"cron": "soon"},
        {"rrule": "FREQ=DAILY", "timezone": "Mars/X"},
        {"rrule": "FREQ=DAILY;INTERVAL=0"},
        {"rrule": "soon"},
        {"every_sec": 0},
    ],
)
def test_times_that_nobody_has_checked_cannot_be_computed(fields: dict[str, Any]) -> None:
    with pytest.raises(NotATiming):
        next_tick(When(**fields), FIRST)


def unix(text: str, zone: str = "UTC") -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp())


def shown(when: When, after: int, count: int) -> list[str]:
    found = islice(ticks(when, after), count)
    return [local_time(tick, when.timezone).isoformat() for tick in found]


def offset_changes(zone: ZoneInfo) -> list[int]:
    """The moments at which the offset of a zone changes, by bisection."""

    def offset(moment: int) -> timedelta | None:
        return datetime.fromtimestamp(moment, zone).utcoffset()

    found = []
    for begin in range(FIRST, LAST, 5 * DAY):
        low, high = begin, begin + 5 * DAY
        if offset(low) == offset(high):
            continue
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if offset(middle) == offset(low) else (low, middle)
        found.append(high)
    return found


CHANGES = {zone: offset_changes(ZoneInfo(zone)) for zone in ZONES}


def random_field(chance: random.Random, least: int, most: int, *, star: float) -> str:
    if chance.random() < star:
        return chance.choice(["*", "*", f"*/{chance.randint(2, max(2, most // 2))}"])
    low = chance.randint(least, most)
    match chance.randrange(3):
        case 0:
            return str(low)
        case 1:
            return f"{low}-{chance.randint(low, most)}"
        case _:
            return ",".join(str(chance.randint(least, most)) for _ in range(3))


def random_cron(chance: random.Random) -> str:
    return " ".join(
        (
            random_field(chance, 0, 59, star=0.3),
            random_field(chance, 0, 23, star=0.4),
            random_field(chance, 1, 28, star=0.8),
            random_field(chance, 1, 12, star=0.9),
            random_field(chance, 0, 6, star=0.8),
        )
    )


def reader(cron: str) -> Callable[[datetime], bool]:
    """Whether a crontab of this test names a time, by looking at each field."""
    minute, hour, day, month, weekday = (
        _values(field, *reach)
        for field, reach in zip(
            cron.split(), ((0, 59), (0, 23), (1, 31), (1, 12), (0, 6)), strict=True
        )
    )
    starred = any(cron.split()[place].startswith("*") for place in (2, 4))

    def matches(wall: datetime) -> bool:
        if wall.minute not in minute or wall.hour not in hour or wall.month not in month:
            return False
        on_day, on_weekday = wall.day in day, wall.isoweekday() % 7 in weekday
        return (on_day and on_weekday) if starred else (on_day or on_weekday)

    return matches


def _values(field: str, least: int, most: int) -> set[int]:
    if field.startswith("*"):
        step = int(field.partition("/")[2] or 1)
        return set(range(least, most + 1, step))
    if "-" in field:
        low, high = map(int, field.split("-"))
        return set(range(low, high + 1))
    return set(map(int, field.split(",")))


def walk(cron: str, zone: ZoneInfo, begin: int, end: int) -> list[int]:
    """The ticks of a time, by looking at every minute, in the sense that is documented."""
    passing = any(field.startswith("*") for field in cron.split()[:2])
    found = []
    matches = reader(cron)
    before = datetime.fromtimestamp(begin - 60, zone).replace(tzinfo=None)
    seen: set[datetime] = {before - timedelta(minutes=back) for back in range(3 * 60)}
    for moment in range(begin, end, 60):
        wall = datetime.fromtimestamp(moment, zone).replace(tzinfo=None)
        if passing:
            due = matches(wall)
        else:
            due = wall not in seen and matches(wall)
            skipped = before + timedelta(minutes=1)
            while skipped < wall:
                due = due or matches(skipped)
                seen.add(skipped)
                skipped += timedelta(minutes=1)
        seen.add(wall)
        before = wall
        if due:
            found.append(moment)
    return found


@pytest.mark.parametrize("zone", ZONES)
def test_any_crontab_is_due_as_a_walk_over_the_minutes_around_each_change_says(zone: str) -> None:
    chance = random.Random(zone)
    for change in CHANGES[zone] or [FIRST]:
        cron = random_cron(chance)
        begin, end = (change // 60) * 60 - 3 * 3600, change + 4 * 3600
        # What the crontab had before is no business of the walk.
        when = When(cron=cron, timezone=zone)
        found = before(when, begin - 1, end)
        assert found == walk(cron, ZoneInfo(zone), begin, end), (cron, zone, change)


def before(when: When, after: int, end: int) -> list[int]:
    found = []
    for tick in ticks(when, after):
        if tick >= end:
            break
        found.append(tick)
    return found


@pytest.mark.parametrize("zone", ZONES)
def test_any_crontab_is_due_when_cronsim_says(zone: str) -> None:
    chance = random.Random(f"{zone} again")
    for _ in range(25):
        cron = random_cron(chance)
        start = chance.randrange(FIRST, LAST)
        when = When(cron=cron, timezone=zone)
        ours = list(islice(ticks(when, start), 40))
        theirs = []
        for moment in CronSim(cron, datetime.fromtimestamp(start, ZoneInfo(zone))):
            tick = int(moment.timestamp())
            # Where clocks are put forward at midnight it names times that are not there; and with the clock
            # in the second pass of an hour it begins with the first.
            real = datetime.fromtimestamp(tick, ZoneInfo(zone)).replace(tzinfo=None)
            if tick <= start or real != moment.replace(tzinfo=None):
                continue
            theirs.append(tick)
            if len(theirs) == 40:
                break
        changes = [c for c in CHANGES[zone] if start <= c <= (ours or [start])[-1]]
        near = {tick for tick in ours + theirs if any(abs(tick - c) <= 2 * 3600 for c in changes)}
        midnight = any(datetime.fromtimestamp(c, ZoneInfo(zone)).hour <= 1 for c in changes)
        if midnight:
            ours = [tick for tick in ours if tick not in near]
            theirs = [tick for tick in theirs if tick not in near]
            shorter = min(len(ours), len(theirs))
            ours, theirs = ours[:shorter], theirs[:shorter]
        assert ours == theirs, (cron, zone, start)


def test_ticks_rise_and_do_not_depend_on_where_the_walk_began() -> None:
    chance = random.Random(7)
    for _ in range(60):
        zone = chance.choice(ZONES)
        change = chance.choice(CHANGES[zone] or [FIRST + DAY])
        when = When(cron=random_cron(chance), timezone=zone)
        walked = list(islice(ticks(when, change - DAY), 50))
        assert walked == sorted(set(walked))
        for tick, following in pairwise(walked):
            assert next_tick(when, tick) == following
            assert next_tick(when, following - 1) == following
            assert next_tick(when, (tick + following) / 2) == following


def test_a_time_of_day_that_is_skipped_is_due_at_the_end_of_the_gap_and_a_repeated_one_once() -> (
    None
):
    spring = unix("2026-03-28T12:00", "Europe/Berlin")
    autumn = unix("2026-10-24T12:00", "Europe/Berlin")
    when = When(cron="30 2 * * *", timezone="Europe/Berlin")
    assert shown(when, spring, 2) == ["2026-03-29T03:00:00+02:00", "2026-03-30T02:30:00+02:00"]
    assert shown(when, autumn, 2) == ["2026-10-25T02:30:00+02:00", "2026-10-26T02:30:00+01:00"]


def test_a_tick_that_falls_onto_one_of_the_gap_is_one_with_it() -> None:
    when = When(cron="0 2,3 * * *", timezone="Europe/Berlin")
    assert shown(when, unix("2026-03-29T00:00", "Europe/Berlin"), 2) == [
        "2026-03-29T03:00:00+02:00",
        "2026-03-30T02:00:00+02:00",
    ]


def test_each_half_hour_goes_by_the_time_that_passes() -> None:
    when = When(cron="*/30 * * * *", timezone="Europe/Berlin")
    assert shown(when, unix("2026-10-25T01:30", "Europe/Berlin"), 5) == [
        "2026-10-25T02:00:00+02:00",
        "2026-10-25T02:30:00+02:00",
        "2026-10-25T02:00:00+01:00",
        "2026-10-25T02:30:00+01:00",
        "2026-10-25T03:00:00+01:00",
    ]
    assert shown(when, unix("2026-03-29T01:30", "Europe/Berlin"), 2) == [
        "2026-03-29T03:00:00+02:00",
        "2026-03-29T03:30:00+02:00",
    ]


def test_six_fields_begin_with_the_second_and_mean_the_same_at_a_gap() -> None:
    when = When(cron="15 30 2 * * *", timezone="Europe/Berlin")
    assert shown(when, unix("2026-03-28T12:00", "Europe/Berlin"), 2) == [
        "2026-03-29T03:00:00+02:00",
        "2026-03-30T02:30:15+02:00",
    ]
    assert shown(When(cron="*/20 * * * * *"), unix("2026-01-01T00:00:00"), 2) == [
        "2026-01-01T00:00:20+00:00",
        "2026-01-01T00:00:40+00:00",
    ]


def test_a_rule_keeps_its_time_of_day_over_the_change() -> None:
    when = When(
        rrule="FREQ=DAILY;BYHOUR=2;BYMINUTE=30;BYSECOND=0",
        timezone="Europe/Berlin",
        anchor_at=unix("2026-03-01T00:00", "Europe/Berlin"),
    )
    assert shown(when, unix("2026-03-28T12:00", "Europe/Berlin"), 2) == [
        "2026-03-29T03:00:00+02:00",
        "2026-03-30T02:30:00+02:00",
    ]
    assert shown(when, unix("2026-10-25T02:15+01:00"[:16], "Europe/Berlin"), 1) == [
        "2026-10-25T02:30:00+02:00"
    ]


def test_the_last_friday_of_each_second_month_and_the_end_of_a_rule() -> None:
    when = When(rrule="FREQ=MONTHLY;INTERVAL=2;BYDAY=-1FR;COUNT=2", anchor_at=unix("2026-01-01"))
    assert shown(when, 0, 9) == ["2026-01-30T00:00:00+00:00", "2026-03-27T00:00:00+00:00"]
    until = When(
        rrule="FREQ=DAILY;UNTIL=20260102T000000Z",
        timezone="Asia/Tokyo",
        anchor_at=unix("2026-01-01T08:00", "Asia/Tokyo"),
    )
    assert shown(until, 0, 9) == ["2026-01-01T08:00:00+09:00", "2026-01-02T08:00:00+09:00"]


def test_so_many_seconds_are_counted_from_the_start() -> None:
    when = When(every_sec=90, start_at=1_000, end_at=1_180)
    assert list(ticks(when, 0)) == [1_000, 1_090, 1_180]
    assert next_tick(when, 1_090) == 1_180
    assert next_tick(when, 1_180) is None


def test_a_list_of_moments_within_start_and_end() -> None:
    assert list(ticks(When(at=[5, 10, 20, 30], start_at=10, end_at=20), 0)) == [10, 20]


def test_the_latest_ticks_of_a_long_time_are_found_without_looking_at_all() -> None:
    when = When(every_sec=1)
    assert_cheap(lambda: latest_ticks(when, 0, 1_700_000_000, 3))
    found, before = latest_ticks(when, 0, 1_700_000_000, 3)
    assert found == [1_699_999_998, 1_699_999_999, 1_700_000_000]
    assert before > 1_000
    assert latest_ticks(When(at=[1, 2, 3, 9]), 0, 5, 2) == ([2, 3], 1)
    assert latest_ticks(When(at=[1, 2, 3, 9]), 3, 5, 2) == ([], 0)
    burst = When(cron="* * * 1 * *")  # each second of the first of each month
    late, _ = latest_ticks(burst, unix("2026-01-20T00:00"), unix("2026-06-20T00:00"), 2)
    assert late == [unix("2026-06-01T23:59:58"), unix("2026-06-01T23:59:59")]


@pytest.mark.parametrize("every", [1, 7, 60])
@pytest.mark.parametrize("most", [1, 3, 102, 1_002])
@pytest.mark.parametrize("missed", [1_999, 2_000, 2_001, 2_002, 2_050, 2_500, 3_002, 3_100, 9_000])
def test_the_latest_ticks_are_those_of_a_walk_over_all(every: int, most: int, missed: int) -> None:
    first = 1_700_000_000
    when = When(every_sec=every, start_at=first)
    for until in (first + missed * every, first + missed * every - 1 + every):
        walked = [tick for tick in islice(ticks(when, first), missed + 5) if tick <= until]
        found, before = latest_ticks(when, first, until, most)
        assert found == walked[-most:]
        assert min(len(walked), 1_000) - most <= before <= len(walked) - len(found)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "* * * *",
        "* * * * * * *",
        "60 * * * *",
        "0 0 30 2 *",
        "x * * * *",
        "* " * 400,
        "*/0 * * * *",
    ],
)
def test_what_is_no_crontab_is_refused(text: str) -> None:
    with pytest.raises(NotATiming):
        check_cron(text)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("61 * * * *", "minute takes 0 to 59, lists, ranges and steps of them, not '61'"),
        ("60 0 * * * *", "second takes 0 to 59"),
        ("0 9-5 * * *", "hour takes 0 to 23, lists, ranges and steps of them, not '9-5'"),
        ("0 2 32 2 *", "day-of-month takes 1 to 31, L or LW, lists"),
        (
            "0 2 * sept *",
            "month takes 1 to 12 or JAN to DEC, lists, ranges and steps of them, not 'sept'",
        ),
        ("0 2 * * 8", "day-of-week takes 0 to 7 (0 and 7 are Sunday) or SUN to SAT"),
        ("0 2 31 2 *", "is never due: month 2 has no day 31"),
        ("0 0 2 31 feb,apr *", "is never due: month feb,apr has no day 31"),
        ("@reboot", "minute, hour, day of month, month, day of week"),
        (
            "@reboot",
            "@hourly, @daily, @midnight, @weekly, @monthly, @yearly, @annually, not '@reboot'",
        ),
    ],
)
def test_what_is_no_crontab_is_told_with_what_would_be(text: str, why: str) -> None:
    with pytest.raises(NotATiming, match=re.escape(why)):
        check_cron(text)


@pytest.mark.parametrize(
    ("name", "then"),
    [
        ("@hourly", "2026-03-04T06:00"),
        ("@daily", "2026-03-05T00:00"),
        ("@midnight", "2026-03-05T00:00"),
        (" @Weekly ", "2026-03-08T00:00"),
        ("@monthly", "2026-04-01T00:00"),
        ("@yearly", "2027-01-01T00:00"),
        ("@annually", "2027-01-01T00:00"),
    ],
)
def test_names_of_crontabs_are_their_five_fields(name: str, then: str) -> None:
    fields = check_cron(name)
    assert len(fields.split()) == 5
    assert next_tick(When(cron=fields), unix("2026-03-04T05:06:07")) == unix(then)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "FREQ=HOURLY",
        "FREQ=DAILY;INTERVAL=0",
        "FREQ=DAILY;COUNT=-1",
        "FREQ=DAILY;BYHOUR=99",
        "FREQ=DAILY;NONSENSE=1",
        "DTSTART:20260101T000000\nRRULE:FREQ=DAILY",
        "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30",
        "FREQ=MONTHLY;BYDAY=9MO",
        "FREQ=YEARLY;BYDAY=54MO",
        "FREQ=WEEKLY;BYEASTER=400;BYSETPOS=-1",
        "FREQ=DAILY;BYMONTH=13",
        "FREQ=DAILY;BYMONTHDAY=-32",
        "FREQ=DAILY;BYHOUR=\u0663",
        "FREQ=DAILY;BYHOUR=0,1,2,3,4,5,6,7,8,9,10,11;BYMINUTE=0,5,10,15,20,25,30,35,40,45",
        # Each look for its next tick would take a second.
        "FREQ=DAILY;BYMONTH=2;BYMONTHDAY=29;BYDAY=SU;BYSETPOS=1" + ",9" * 219,
    ],
)
def test_what_is_no_rule_is_refused(text: str) -> None:
    with pytest.raises(NotATiming):
        check_rrule(text, anchor=0, timezone="UTC")


@pytest.mark.parametrize(
    "rule",
    [
        f"FREQ={step};INTERVAL={interval}{more};BYHOUR=2,9;BYMINUTE=30"
        for step in ("DAILY", "WEEKLY", "MONTHLY", "YEARLY")
        for interval, more in ((1, ""), (3, ";BYDAY=TU,SU"), (2, ";BYMONTH=2,7;BYMONTHDAY=-1"))
    ],
)
@pytest.mark.parametrize("anchor", ["1972-02-28", "1972-02-29", "1981-01-31"])
def test_a_rule_that_began_long_ago_goes_on_as_it_began(rule: str, anchor: str) -> None:
    when = When(rrule=rule, timezone="America/New_York", anchor_at=unix(anchor))
    moment = unix("1999-05-05")
    from_its_beginning = (tick for tick in ticks(when, 0) if tick > moment)
    assert list(islice(ticks(when, moment), 3)) == list(islice(from_its_beginning, 3))


@st.composite
def rules_of_months_and_years(draw: st.DrawFn) -> str:
    """Rules that have a tick every few years, whatever they ask for."""
    step = draw(st.sampled_from(["MONTHLY", "YEARLY"]))
    parts = [f"FREQ={step}", f"INTERVAL={draw(st.integers(1, 5))}"]
    days = [[], ["BYMONTHDAY=-1,13"], ["BYDAY=TU,SU"], ["BYDAY=MO,FR", "BYSETPOS=-1,2"]]
    months = [[], ["BYMONTH=1,2,3,4,5,6,7,8,9,10,11,12"]]
    of_years = [["BYYEARDAY=60,-60"], ["BYWEEKNO=9,20", "BYDAY=WE"], ["BYDAY=20MO,-1SU"]]
    parts += draw(st.sampled_from([day + month for day in days for month in months]))
    if step == "YEARLY" and draw(st.booleans()):
        parts[2:] = draw(st.sampled_from(of_years))
    parts += draw(st.sampled_from([[], ["WKST=SU"], ["COUNT=700"], ["UNTIL=21400101T000000"]]))
    return ";".join(parts)


@given(
    rule=rules_of_months_and_years(),
    anchor=st.one_of(
        st.sampled_from([date(year, 2, 29) for year in range(1972, 2040, 4)]),
        st.dates(date(1970, 1, 2), date(2040, 1, 1)),
    ),
    later=st.integers(0, 110 * 366),
)
def test_any_rule_of_months_and_years_goes_on_as_it_began(
    rule: str, anchor: date, later: int
) -> None:
    begin = unix(anchor.isoformat()) + 9 * 3600
    when = When(rrule=rule, anchor_at=begin)
    found = list(islice(ticks(when, begin + later * DAY), 3))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ticks_module, "_nearer", lambda _, anchor, __: anchor)
        assert found == list(islice(ticks(when, begin + later * DAY), 3))


@pytest.mark.parametrize("anchor", ["1970-01-01", "1972-02-29"])
def test_a_rule_that_began_long_ago_is_as_fast_as_a_new_one(anchor: str) -> None:
    rule = "FREQ=DAILY;BYMINUTE=0,15,30,45;BYHOUR=" + ",".join(map(str, range(24)))
    for step in ("DAILY", "WEEKLY", "MONTHLY", "YEARLY"):
        every = "" if step == "DAILY" else ";BYDAY=MO,TU,WE,TH,FR,SA,SU"
        when = When(rrule=rule.replace("DAILY", step) + every, anchor_at=unix(anchor))
        assert next_tick(when, unix("2150-01-01")) == unix("2150-01-01T00:15")
        assert_cheap(partial(next_tick, when, unix("2150-01-01")), most=50)


def test_a_time_of_day_is_read_in_its_zone() -> None:
    assert of_wall_clock(datetime.fromisoformat("2026-07-01T09:00"), "Asia/Tokyo") == unix(
        "2026-07-01T00:00"
    )
    gap = of_wall_clock(datetime.fromisoformat("2026-03-29T02:30"), "Europe/Berlin")
    assert local_time(gap, "Europe/Berlin").isoformat() == "2026-03-29T03:00:00+02:00"


@pytest.mark.parametrize(
    "rule",
    [
        "FREQ=DAILY;BYMONTH=2;BYMONTHDAY=30",
        "FREQ=WEEKLY;BYMONTH=4;BYMONTHDAY=31",
        "FREQ=MONTHLY;BYDAY=MO;BYSETPOS=300",
        "FREQ=YEARLY;BYWEEKNO=1;BYMONTH=6",
    ],
)
def test_a_rule_that_is_never_due_is_found_out_soon(rule: str) -> None:
    def check() -> None:
        with pytest.raises(NotATiming, match="is never due"):
            check_rrule(rule, anchor=unix("2026-01-01"), timezone="Europe/Berlin")

    assert_cheap(check, most=400)  # thousands, where it is looked for up to the year 9999


@pytest.mark.parametrize(
    ("until", "days"),
    [
        ("20260103", 3),
        ("20260103T000000", 3),
        ("20260102T225959Z", 2),  # midnight in Berlin is an hour before that of UTC
        ("20260102T230000Z", 3),
        ("20991231T235959Z", 10),
        ("99991231T235959Z", 10),
    ],
)
def test_a_rule_goes_on_to_its_end_and_not_beyond(until: str, days: int) -> None:
    rule = check_rrule(
        f"FREQ=DAILY;UNTIL={until}", anchor=unix("2025-12-31T23:00:00"), timezone="Europe/Berlin"
    )
    when = When(rrule=rule, timezone="Europe/Berlin", anchor_at=unix("2025-12-31T23:00:00"))
    found = list(islice(ticks(when, 0), 10))
    assert found == [unix("2025-12-31T23:00:00") + 86_400 * day for day in range(days)]


@pytest.mark.parametrize(
    "rule",
    [
        "FREQ=DAILY;INTERVAL=3;BYDAY=MO,SA",
        "FREQ=WEEKLY;INTERVAL=5;BYDAY=SU;WKST=SU",
        "FREQ=MONTHLY;BYDAY=-1FR,2TU",
        "FREQ=YEARLY;BYWEEKNO=53",
        "FREQ=YEARLY;BYYEARDAY=366,-366",
        "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=29",
    ],
)
def test_a_rule_is_due_when_dateutil_says(rule: str) -> None:
    begin = datetime(1999, 12, 31, 9)  # noqa: DTZ001
    end = datetime(2199, 12, 31)  # noqa: DTZ001
    expected = rrulestr(rule, dtstart=begin).between(begin, end, inc=True)
    when = When(rrule=rule, anchor_at=unix("1999-12-31T09:00:00"))
    found = [datetime.fromtimestamp(at, UTC).replace(tzinfo=None) for at in ticks(when, 0)]
    assert [wall for wall in found if wall <= end] == expected
