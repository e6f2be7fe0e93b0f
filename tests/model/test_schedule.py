"""What people may say of a schedule, what its params become, and what becomes of its ticks."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest
from msgspec.structs import replace

from pyoco_server.model.errors import InvalidField
from pyoco_server.model.json_text import encode_json
from pyoco_server.model.schedules import rules
from pyoco_server.model.schedules.params import (
    UnknownPlaceholder,
    check_placeholders,
    fill_in,
    values_of,
)
from pyoco_server.model.schedules.reading import read_spec
from pyoco_server.model.schedules.schedule import (
    Overlap,
    Schedule,
    ScheduleState,
    TickOutcome,
    TickRecord,
    check_schedule_id,
    decode_schedule,
)
from pyoco_server.model.schedules.ticks import NotATiming, due_at, ticks

NOW = 1_000_000


def spec(**fields: Any) -> Any:
    if not {"cron", "every_sec", "rrule", "at"} & fields.keys():
        fields["every_sec"] = 10
    return read_spec({"flow_name": "add", **fields}, default_tag="default", now=NOW)


def schedule(**fields: Any) -> Schedule:
    bare = Schedule(schedule_id="s", spec=spec(**fields), progress=None)  # type: ignore[arg-type]
    return rules.made(bare, NOW, "me")


def look(
    of: Schedule, now: float, *, alive: bool = False
) -> tuple[rules.Decision, Schedule, rules.Due]:
    what = rules.due(of, now)
    decision = rules.decide(of, what, now, alive=alive)
    decided = rules.decided(of, decision, now, active=[])
    return decision, started(decided, now), what


def started(of: Schedule, now: float) -> Schedule:
    """The schedule once the runs that are to be submitted are."""
    records = [
        TickRecord(tick=tick, outcome=TickOutcome.RUN, decided_at=now, run_id=of.run_id_of(tick))
        for tick in of.progress.starting
    ]
    return rules.started(of, records, now) if records else of


def test_a_tick_starts_its_run_and_the_next_one_is_aimed_at() -> None:
    first = schedule()
    assert first.progress.next_tick == first.progress.wake_at == NOW + 10
    assert look(first, NOW + 9)[0].start == ()
    decision, after, _ = look(first, NOW + 10)
    assert decision.start == (NOW + 10,)
    assert (after.progress.cursor, after.progress.wake_at) == (NOW + 10, NOW + 20)
    assert after.progress.active == [first.run_id_of(NOW + 10)]
    assert after.progress.counts == {TickOutcome.RUN: 1}
    assert look(after, NOW + 11)[0].start == ()
    assert decode_schedule(encode_json(after)) == after
    # A record of a version that does not keep when the next tick is due.
    old = replace(after, progress=replace(after.progress, next_due_at=None))
    read = decode_schedule(encode_json(old))
    assert read.progress.next_due_at == after.progress.next_tick


def test_catching_up_makes_up_for_the_last_or_for_so_many_or_for_none() -> None:
    late = NOW + 1_000
    decision, after, _ = look(schedule(catch_up="last"), late)
    assert decision.start == (late,)
    assert after.progress.ticks[0].count == 99
    assert after.progress.counts == {TickOutcome.RUN: 1, TickOutcome.MISSED: 99}
    all_of = schedule(catch_up="all", catch_up_limit=3, overlap="allow")
    assert look(all_of, late)[0].start == (late - 20, late - 10, late)
    assert look(schedule(catch_up="all", overlap="allow"), late)[1].progress.counts == {
        TickOutcome.RUN: 100
    }
    none = schedule(catch_up="none", at=[NOW + 10])
    assert look(none, NOW + 10 + rules.ON_TIME_SECONDS)[0].start == (NOW + 10,)
    decision, after, _ = look(none, NOW + 71)
    assert decision.start == ()
    assert after.progress.ticks[0].outcome is TickOutcome.MISSED
    assert after.progress.ticks[0].tick == NOW + 10
    assert after.progress.wake_at is None


def test_while_a_run_goes_on_a_tick_is_skipped_or_waits_or_takes_its_place_or_stands_beside() -> (
    None
):
    now = NOW + 10
    decision, after, _ = look(schedule(overlap="skip"), now, alive=True)
    assert (decision.start, after.progress.ticks[0].outcome) == ((), TickOutcome.SKIPPED)
    assert look(schedule(overlap="allow"), now, alive=True)[0].start == (now,)

    decision, after, _ = look(schedule(overlap="queue"), now, alive=True)
    assert (decision.start, after.progress.waiting) == ((), [now])
    assert after.progress.wake_at == now + 1
    decision, after, _ = look(after, now + 10, alive=True)
    assert after.progress.waiting == [now, now + 10]
    decision, after, _ = look(after, now + 11)
    assert (decision.start, after.progress.waiting) == ((now,), [now + 10])

    decision, after, _ = look(schedule(overlap="cancel_running"), now, alive=True)
    assert (decision.cancel, decision.start, after.progress.waiting) == (True, (), [now])
    decision, after, _ = look(after, now + 10, alive=True)
    assert after.progress.waiting == [now + 10]
    assert after.progress.ticks[-1].tick == now
    decision, after, _ = look(after, now + 11)
    assert (decision.start, decision.cancel) == ((now + 10,), False)


def test_a_queue_of_ticks_has_an_end() -> None:
    full = schedule(overlap="queue", every_sec=1, catch_up="all", catch_up_limit=1000)
    decision, after, _ = look(full, NOW + 300, alive=True)
    assert len(decision.waiting) == 100
    assert decision.waiting[0] == NOW + 1
    assert after.progress.counts == {TickOutcome.SKIPPED: 200}


def test_jitter_is_the_same_for_a_tick_whoever_asks_and_never_reaches_the_next_one() -> None:
    jittered = schedule(jitter_sec=3600)
    dues = [due_at(jittered, tick) for tick in range(NOW, NOW + 1000, 10)]
    assert dues == sorted(dues)
    assert all(
        0 <= due - tick < 10 for due, tick in zip(dues, range(NOW, NOW + 1000, 10), strict=True)
    )
    assert len({due % 10 for due in dues}) > 50
    due = due_at(jittered, NOW + 10)
    assert jittered.progress.wake_at == due
    assert look(jittered, due - 0.01)[0].start == ()
    assert look(jittered, due)[0].start == (NOW + 10,)
    assert look(jittered, NOW + 30)[1].progress.cursor >= NOW + 20


def test_what_is_to_be_submitted_is_written_down_and_gone_on_with_at_once() -> None:
    first = schedule(every_sec=None, at=[NOW + 10])
    decision = rules.decide(first, rules.due(first, NOW + 10), NOW + 10, alive=False)
    decided = rules.decided(first, decision, NOW + 10, active=[])
    assert decided.progress.starting == [NOW + 10]
    assert (decided.progress.wake_at, decided.state) == (NOW + 10, ScheduleState.ACTIVE)
    assert not decided.progress.ticks
    assert not decided.progress.active
    assert rules.due(decided, NOW + 99).ticks == ()
    after = started(decided, NOW + 99)
    assert [record.tick for record in after.progress.ticks] == [NOW + 10]
    assert (after.progress.starting, after.state) == ([], ScheduleState.ENDED)


def test_what_is_not_submitted_yet_stays_to_be_submitted() -> None:
    of = schedule(overlap="allow", catch_up="all")
    what = rules.due(of, NOW + 30)
    decided = rules.decided(of, rules.decide(of, what, NOW + 30, alive=False), NOW + 30, active=[])
    first, *others = decided.progress.starting
    record = TickRecord(
        tick=first, outcome=TickOutcome.RUN, decided_at=NOW + 31, run_id=of.run_id_of(first)
    )
    some = rules.started(decided, [record], NOW + 31)
    assert some.progress.starting == others == [NOW + 20, NOW + 30]
    assert some.progress.wake_at == NOW + 31, "whoever looks next goes on with them"
    assert some.progress.counts == {TickOutcome.RUN: 1}
    assert started(some, NOW + 32).progress.starting == []


def test_a_paused_schedule_is_not_looked_at_and_begins_anew_afterwards() -> None:
    waiting = look(schedule(overlap="queue"), NOW + 10, alive=True)[1]
    still = rules.changed(rules.paused(waiting, NOW + 15), NOW + 15, "pause", "me")
    assert (still.progress.wake_at, still.progress.waiting) == (None, [])
    assert still.progress.ticks[-1].reason == "the schedule was paused"
    later = NOW + 105
    on = rules.changed(
        rules.from_now_on(replace(still, paused=False), later), later, "resume", "me"
    )
    assert on.progress.wake_at == NOW + 110
    assert [change.action for change in on.changes] == ["create", "pause", "resume"]
    assert on.version == 3


def held_back() -> tuple[Schedule, int, float]:
    """A schedule, its next tick, and when jitter lets that be due."""
    jittered = schedule(cron="0 0 * * *", jitter_sec=3600)
    tick = jittered.progress.next_tick
    assert tick is not None
    due = due_at(jittered, tick)
    assert due > tick + 60
    return jittered, tick, due


def test_a_tick_that_its_jitter_holds_back_outlasts_a_pause() -> None:
    jittered, tick, due = held_back()
    still = rules.changed(rules.paused(jittered, tick + 1), tick + 1, "pause", "me")
    on = replace(still, paused=False)
    soon = rules.aimed(rules.from_now_on(on, tick + 5), tick + 5)
    assert (soon.progress.next_tick, soon.progress.wake_at) == (tick, due)
    assert look(soon, due - 0.01)[0].start == ()
    assert look(soon, due)[0].start == (tick,)
    late = rules.aimed(rules.from_now_on(on, due), due)
    assert late.progress.next_tick == tick + 86_400


def test_a_tick_that_its_jitter_holds_back_goes_by_other_times_or_is_told_as_skipped() -> None:
    jittered, tick, due = held_back()
    now = tick + 1.5

    def with_times(**fields: Any) -> Schedule:
        return rules.aimed(rules.from_now_on(jittered, now, replace(jittered.spec, **fields)), now)

    ends_later = with_times(end_at=tick + 5 * 86_400)
    assert (ends_later.progress.next_tick, ends_later.progress.wake_at) == (tick, due)
    assert not ends_later.progress.ticks
    assert look(with_times(jitter_sec=0.0), now)[0].start == (tick,)
    for other, then in (
        (with_times(cron="0 6 * * *"), tick + 6 * 3600),
        (with_times(end_at=tick - 1), None),
        (with_times(cron="* * * * * *"), tick + 2),
    ):
        (told,) = other.progress.ticks
        assert (told.tick, told.outcome, told.count) == (tick, TickOutcome.SKIPPED, 1)
        assert "times of the schedule were changed" in (told.reason or "")
        assert other.progress.next_tick == then


def test_times_that_cannot_be_computed_can_be_changed_and_paused() -> None:
    foreign = replace(schedule(), spec=replace(spec(cron="0 0 * * *"), timezone="Mars/X"))
    for compute in (rules.due, rules.aimed):
        with pytest.raises(NotATiming, match="no time zone 'Mars/X'"):
            compute(foreign, NOW + 99_999)
    mended = rules.from_now_on(foreign, NOW + 5, spec(every_sec=10))
    assert rules.aimed(mended, NOW + 5).progress.next_tick == NOW + 10
    assert rules.changed(rules.paused(foreign, NOW), NOW, "pause", "me").state == "paused"


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"flow_name": ""}, "flow_name"),
        ({"cron": "* * * * *", "every_sec": 5}, "every_sec"),
        ({"cron": "nonsense"}, "cron"),
        ({"every_sec": 0}, "every_sec"),
        ({"every_sec": 1.5}, "every_sec"),
        ({"every_sec": True}, "every_sec"),
        ({"rrule": "FREQ=SECONDLY"}, "rrule"),
        ({"at": []}, "at"),
        ({"at": ["soon"]}, "at"),
        ({"at": [1.5]}, "at"),
        ({"timezone": "Mars/Olympus"}, "timezone"),
        ({"timezone": "../etc/passwd"}, "timezone"),
        ({"timezone": 9}, "timezone"),
        ({"timezone": "localtime"}, "timezone"),  # another one on each machine
        ({"timezone": "right/UTC"}, "timezone"),  # with leap seconds, which unix seconds have not
        ({"overlap": "perhaps"}, "overlap"),
        ({"catch_up": 1}, "catch_up"),
        ({"catch_up_limit": 0}, "catch_up_limit"),
        ({"jitter_sec": -1}, "jitter_sec"),
        ({"jitter_sec": float("nan")}, "jitter_sec"),
        ({"start_at": "2026-01-02", "end_at": "2026-01-01"}, "end_at"),
        ({"start_at": 1e300}, "start_at"),
        ({"start_at": 10**400}, "start_at"),
        ({"tag": "a.b"}, "tag"),
        ({"labels": {"a b": "c"}}, "labels"),
        ({"labels": [1]}, "labels"),
        ({"params": [1]}, "params"),
        ({"params": {"a": ["{{nonsense}}"]}}, "params"),
        ({"max_attempts": 0}, "max_attempts"),
        ({"name": "x" * 201}, "name"),
    ],
)
def test_what_cannot_be_is_refused_by_its_name(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidField) as refused:
        spec(**fields)
    assert refused.value.field == field


@pytest.mark.parametrize("count", [1, 3])
def test_a_rule_that_counts_has_all_its_ticks_before_it(count: int) -> None:
    fields = {"flow_name": "f", "rrule": f"FREQ=DAILY;COUNT={count}"}
    spec = read_spec(fields, default_tag="default", now=NOW + 0.5)
    assert len(list(ticks(spec, NOW + 0.5))) == count


def test_a_rule_that_stays_goes_on_from_where_it_began() -> None:
    fields = {"flow_name": "f", "rrule": "FREQ=DAILY;UNTIL=19700113T000000Z"}
    before = read_spec(fields, default_tag="default", now=NOW)
    late = partial(read_spec, default_tag="default", now=NOW + 9 * 86_400, before=before)
    assert late(fields | {"rrule": "rrule:freq=daily;until=19700113t000000z"}) == before
    for other in ({"timezone": "Asia/Tokyo"}, {"rrule": "FREQ=DAILY;UNTIL=19700114T000000Z"}):
        with pytest.raises(InvalidField, match="never due"):
            late(fields | other)
    assert late(fields | {"rrule": "FREQ=DAILY"}).anchor_at == NOW + 9 * 86_400


def test_moments_are_read_in_the_zone_of_the_schedule_unless_they_say_another() -> None:
    read = spec(
        at=["2026-12-01T09:00", "2026-12-01T00:00:00+00:00", 0, datetime(2030, 1, 1, tzinfo=UTC)],
        timezone="Asia/Tokyo",
        end_at="2031-01-01",
    )
    assert read.at == [0, 1_796_083_200, 1_893_456_000]
    assert read.end_at == 1_924_959_600


def test_an_id_is_one_token() -> None:
    assert check_schedule_id("nightly-1_a") == "nightly-1_a"
    for wrong in ("", "a.b", "a b", "x" * 65, "*", "ä"):
        with pytest.raises(InvalidField):
            check_schedule_id(wrong)


def test_tenants_have_ids_of_their_own() -> None:
    mine, other = schedule(), replace(schedule(), tenant_id="_")
    assert mine.key != other.key
    assert mine.run_id_of(1) != other.run_id_of(1)


def test_placeholders_are_filled_in_once_at_any_depth_and_never_evaluated() -> None:
    values = values_of("nightly", "{{timezone}}", "Asia/Tokyo", 1_796_083_200)
    params = {
        "day": "{{scheduled_date}}",
        "deep": [{"at": "from {{ scheduled_at }} on"}],
        "unix": "{{scheduled_unix}}",
        "text": "x{{scheduled_unix}}",
        "literal": "{{{{scheduled_at}}",
        "name": "{{schedule_name}}",
        "number": 7,
        "{{schedule_id}}": None,
        "braces": "{ {scheduled_at} } {{}",
    }
    assert fill_in(params, values) == {
        "day": "2026-12-01",
        "deep": [{"at": "from 2026-12-01T09:00:00+09:00 on"}],
        "unix": 1_796_083_200,
        "text": "x1796083200",
        "literal": "{{scheduled_at}}",
        "name": "{{timezone}}",
        "number": 7,
        "{{schedule_id}}": None,
        "braces": "{ {scheduled_at} } {{}",
    }
    check_placeholders(params)
    with pytest.raises(UnknownPlaceholder, match="did you mean 'scheduled_date'"):
        check_placeholders({"a": "{{schedule_date}}"})


def test_every_overlap_is_decided_for_any_number_of_ticks() -> None:
    for overlap in Overlap:
        for alive in (False, True):
            of = schedule(overlap=overlap, catch_up="all")
            for late in (10, 20, 500):
                decision, after, what = look(of, NOW + late, alive=alive)
                told = {*decision.start, *decision.waiting} | {
                    record.tick for record in decision.settled
                }
                assert told == set(what.ticks)
                assert after.progress.cursor == NOW + late
