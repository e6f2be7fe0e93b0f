"""Each tick of a schedule gets what the schedule says, once, whatever breaks between."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from msgspec.structs import replace

from backend.stage import TAG, ended, no_threads_for, queued, running, settings_for
from backend.test_idempotency import second_gateway
from e2e.programs import FLOW_YAML
from nats_fixtures import eventually, node_in, paused
from pyoco_server.backend import Backend, open_backend
from pyoco_server.gateway.new_run import Accepted, NewRun, NotAccepted, Person
from pyoco_server.gateway.schedules import clockwork, records, rounds, text_keeper
from pyoco_server.gateway.schedules import desk as desk_module
from pyoco_server.gateway.schedules.board import ScheduleBoard
from pyoco_server.gateway.schedules.clockwork import Scheduler
from pyoco_server.gateway.schedules.desk import ScheduleDesk, ScheduleExists, Wish
from pyoco_server.gateway.schedules.records import (
    ScheduleChanged,
    ScheduleNotFound,
    SchedulesUnavailable,
    TakesTooLong,
)
from pyoco_server.gateway.schedules.rounds import Rounds
from pyoco_server.gateway.schedules.runs import NotComputed, ScheduleRuns
from pyoco_server.gateway.submitter import Submitter
from pyoco_server.jetstream import wakeups
from pyoco_server.jetstream.connection import Connection
from pyoco_server.jetstream.errors import Unanswered
from pyoco_server.jetstream.keyvalue import KeyValue
from pyoco_server.jetstream.requests import RawMessage
from pyoco_server.kernel import ActorDown, AskExpired
from pyoco_server.model.errors import InvalidField
from pyoco_server.model.flow.file import parse_flow_yaml
from pyoco_server.model.json_text import encode_json
from pyoco_server.model.run import (
    RunSnapshot,
    RunStatus,
    UnreadableSnapshot,
    decode_snapshot,
    known,
)
from pyoco_server.model.schedules import rules
from pyoco_server.model.schedules.schedule import (
    Schedule,
    ScheduleProgress,
    ScheduleSpec,
    TickOutcome,
    UnreadableSchedule,
)
from pyoco_server.model.schedules.ticks import ticks
from pyoco_server.store.schedules import ScheduleStore, StoredSchedule

ME = Person()


def wish(**fields: Any) -> Wish:
    return Wish({"flow_name": "quick", "tag": TAG, "every_sec": 1, "overlap": "allow", **fields})


async def runs_of(backend: Backend, schedule_id: str = "s") -> list[RunSnapshot]:
    entries = await KeyValue(backend.connection, backend.settings.runs_kv_bucket).all()
    found = [decode_snapshot(entry.value) for entry in entries]
    return [run for run in found if run.schedule_id == schedule_id]


async def ticks_with_runs(backend: Backend, schedule_id: str = "s") -> Counter[float]:
    return Counter(run.scheduled_at or 0.0 for run in await runs_of(backend, schedule_id))


def assert_each_once(found: Counter[float], first: float, last: float) -> None:
    """Every second of a time has one run."""
    assert found == Counter(
        dict.fromkeys([float(at) for at in range(int(first), int(last) + 1)], 1)
    )


async def ticks_up_to_now(
    backend: Backend, first: float | None, schedule_id: str = "s"
) -> Counter[float]:
    """The ticks with runs from the first to the last one that has one now, once those in between have theirs.

    Of several that are made up for, runs are stored in any order.
    """
    found: Counter[float] = Counter()
    last = max(await ticks_with_runs(backend, schedule_id))
    with trio.move_on_after(20):
        while True:
            found = await ticks_with_runs(backend, schedule_id)
            found = Counter({tick: count for tick, count in found.items() if tick <= last})
            if len(found) > last - (first or 0.0):
                break
            await trio.sleep(0.05)
    return found


async def seen(backend: Backend, count: int, schedule_id: str = "s", within: float = 60) -> None:
    """Wait until so many ticks have runs."""
    with trio.fail_after(within):
        while len(await ticks_with_runs(backend, schedule_id)) < count:
            await trio.sleep(0.05)


async def test_each_tick_has_one_run_with_its_time_at_two_gateways(tmp_path: Path) -> None:
    async with running(tmp_path, worker=False) as backend, second_gateway(backend):
        made = await backend.schedules.create(
            "s", wish(catch_up="all", params={"at": "{{scheduled_unix}}"}, timeout_sec=7), ME
        )
        await seen(backend, 3)
        found = await ticks_up_to_now(backend, made.progress.next_tick)
        assert_each_once(found, made.progress.next_tick or 0, max(found))
        for run in await runs_of(backend):
            assert run.params == {"at": run.scheduled_at}
            assert (run.tag, run.timeout_sec) == (TAG, 7)
        await backend.schedules.pause("s", ME)

        async def written_down() -> bool:
            """What was being made of a tick as it was paused comes behind that."""
            known = await backend.schedules.get("s", ME)
            assert {tick.outcome for tick in known.progress.ticks} == {TickOutcome.RUN}
            told = {tick.run_id for tick in known.progress.ticks}
            return told == {run.run_id for run in await runs_of(backend)}

        await eventually(written_down)


STEPS = (
    "before the run is submitted",
    "after the run was submitted",
    "before it is written down",
    "after it was written down",
    "before the next wake-up",
    "after the next wake-up",
)


@pytest.mark.parametrize("together", [1, 5])
async def test_a_gateway_that_dies_between_any_two_steps_loses_no_tick_and_doubles_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, together: int
) -> None:
    """What dies gets no further; its wake-up comes again, as that of a gateway that was killed does."""
    left = [*STEPS]

    def die(at: str) -> None:
        if at in left:
            left.remove(at)
            raise Unanswered("it was killed here")

    submit, update, wake = ScheduleRuns.submit, ScheduleStore.update, wakeups.wake
    update_all = ScheduleStore.update_all

    async def dying_submit(self: ScheduleRuns, *args: Any, **more: Any) -> Any:
        die(STEPS[0])
        done = await submit(self, *args, **more)
        die(STEPS[1])
        return done

    async def dying_update(self: ScheduleStore, *args: Any) -> StoredSchedule | None:
        die(STEPS[2])
        done = await update(self, *args)
        die(STEPS[3])
        return done

    async def dying_update_all(self: ScheduleStore, *args: Any) -> list[StoredSchedule]:
        die(STEPS[2])
        done = await update_all(self, *args)
        die(STEPS[3])
        return done

    async def dying_wake(*args: Any) -> None:
        die(STEPS[4])
        await wake(*args)
        die(STEPS[5])

    async with running(tmp_path, worker=False) as backend:
        ids = [f"s{number}" for number in range(together)]
        made = [await backend.schedules.create(id_, wish(catch_up="all"), ME) for id_ in ids]
        monkeypatch.setattr(ScheduleRuns, "submit", dying_submit)
        monkeypatch.setattr(ScheduleStore, "update", dying_update)
        monkeypatch.setattr(ScheduleStore, "update_all", dying_update_all)
        monkeypatch.setattr(wakeups, "wake", dying_wake)
        with trio.fail_after(60):
            while left:
                await trio.sleep(0.05)
        for schedule in made:
            so_far = len(await ticks_with_runs(backend, schedule.schedule_id))
            await seen(backend, so_far + 2, schedule.schedule_id)
            found = await ticks_up_to_now(
                backend, schedule.progress.next_tick, schedule.schedule_id
            )
            assert_each_once(found, schedule.progress.next_tick or 0, max(found))


async def test_a_run_that_was_submitted_is_written_down_however_much_falls_due_before_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the last tick is made up for, and a gateway died right behind the submission of an earlier one."""
    update, died = ScheduleStore.update, 0

    async def dying_update(
        self: ScheduleStore, stored: StoredSchedule, schedule: Schedule
    ) -> StoredSchedule | None:
        nonlocal died
        if schedule.progress.counts.get(TickOutcome.RUN) == 1 and died < 3:
            died += 1
            raise Unanswered("it was killed here")
        return await update(self, stored, schedule)

    monkeypatch.setattr(ScheduleStore, "update", dying_update)
    async with running(tmp_path, worker=False) as backend:
        await backend.schedules.create("s", wish(catch_up="last"), ME)
        await seen(backend, 4)
        await backend.schedules.pause("s", ME)
        assert died == 3

        async def written_down() -> bool:
            """What was being made of a tick as it was paused comes behind that."""
            progress = (await backend.schedules.get("s", ME)).progress
            told = [tick.run_id for tick in progress.ticks if tick.outcome is TickOutcome.RUN]
            assert progress.counts[TickOutcome.RUN] == len(told)
            assert progress.counts[TickOutcome.MISSED] >= 2
            return sorted(run.run_id for run in await runs_of(backend)) == sorted(told, key=str)

        await eventually(written_down)


@asynccontextmanager
async def beside_a_node(tmp_path: Path) -> AsyncIterator[tuple[Backend, Any]]:
    async with (
        node_in(tmp_path / "nats") as node,
        open_backend(settings_for(tmp_path, nats_url=node.url)) as backend,
    ):
        await backend.wait_ready(within=60)
        yield backend, node


async def test_ticks_while_nats_was_away_are_made_up_for_all_or_the_last_or_none(
    tmp_path: Path,
) -> None:
    async with beside_a_node(tmp_path) as (backend, node):
        everything = await backend.schedules.create("all", wish(catch_up="all"), ME)
        only_last = await backend.schedules.create("last", wish(catch_up="last"), ME)
        now = await backend.schedules.now()
        within = wish(every_sec=None, at=[int(now) + 3], catch_up="none")
        await backend.schedules.create("none", within, ME)
        await seen(backend, 1, "all")
        await seen(backend, 1, "last")
        with paused(node):
            await trio.sleep(5)
        await seen(backend, 8, "all")
        found = await ticks_up_to_now(backend, everything.progress.next_tick, "all")
        assert_each_once(found, everything.progress.next_tick or 0, max(found))
        assert set((await ticks_with_runs(backend, "last")).values()) == {1}

        async def missed() -> bool:
            last = (await backend.schedules.get("last", ME)).progress
            decided = sum(last.counts.values()) + len(last.starting)
            assert decided == last.cursor - int(only_last.progress.next_tick or 0) + 1
            return last.counts.get(TickOutcome.MISSED, 0) >= 2

        await eventually(missed)
        await seen(backend, 1, "none")  # a few seconds late is on time


async def test_a_server_that_is_killed_over_ticks_loses_none(tmp_path: Path) -> None:
    async with beside_a_node(tmp_path) as (backend, node):
        made = await backend.schedules.create("s", wish(catch_up="all"), ME)
        for count in (1, 3):
            await seen(backend, count)
            node.kill()
        await seen(backend, 5)
        found = await ticks_up_to_now(backend, made.progress.next_tick)
        assert_each_once(found, made.progress.next_tick or 0, max(found))


@pytest.mark.parametrize("ahead", [-600.0, 600.0])
async def test_a_gateway_whose_clock_is_minutes_off_loses_and_doubles_no_tick(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ahead: float
) -> None:
    async with running(tmp_path, worker=False) as backend:
        right = time.time
        monkeypatch.setattr(time, "time", lambda: right() + ahead)
        async with second_gateway(backend) as wrong:
            made = await wrong.schedules.create("s", wish(), ME)
            assert abs(made.created_at - right()) < 60
            await seen(backend, 3)
            found = await ticks_up_to_now(backend, made.progress.next_tick)
            assert_each_once(found, made.progress.next_tick or 0, max(found))
            assert max(found) <= right()


async def test_schedules_of_the_same_second_are_seen_to_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(tmp_path, worker=False) as backend:
        desk = backend.schedules
        due = int(await desk.now()) + 3600
        for number in range(50):
            await desk.create(f"s{number}", wish(every_sec=None, at=[due, due + 5]), ME)
        requests: Counter[str] = Counter()
        real = Connection.request

        async def request(self: Connection, subject: str, *args: Any, **options: Any) -> RawMessage:
            requests[subject] += 1
            return await real(self, subject, *args, **options)

        monkeypatch.setattr(Connection, "request", request)
        keys = [schedule.key for schedule in desk.listed(None, lambda schedule: True)]
        outcomes = await desk._records._rounds.see_to(keys, at_least=due)
        reads = sum(count for subject, count in requests.items() if subject.startswith("$JS.API"))
        assert reads <= 60, "one each, and what is asked in between"
        assert sum(requests.values()) - reads <= 7, (
            "schedules, keys, runs, jobs, keys, schedules, wake-ups"
        )
        for outcome in outcomes.values():
            assert isinstance(outcome, StoredSchedule)
            assert outcome.schedule.progress.next_tick == due + 5
            assert [tick.outcome for tick in outcome.schedule.progress.ticks] == [TickOutcome.RUN]


async def test_of_schedules_that_are_seen_to_together_each_fails_for_itself(
    tmp_path: Path,
) -> None:
    async with running(tmp_path, worker=False) as backend:
        desk = backend.schedules
        due = int(await desk.now()) + 3600
        for number in range(4):
            await desk.create(f"s{number}", wish(every_sec=None, at=[due]), ME)
        keys = [schedule.key for schedule in desk.listed(None, lambda schedule: True)]
        bucket = KeyValue(backend.connection, backend.settings.schedules_kv_bucket)
        await bucket.put(keys[1], b"no schedule")
        await desk.delete("s2", ME)
        outcomes = await desk._records._rounds.see_to(keys, at_least=due)
        assert isinstance(outcomes[keys[1]], UnreadableSchedule)
        assert outcomes[keys[2]] is None
        for number in (0, 3):
            assert await ticks_with_runs(backend, f"s{number}") == Counter([float(due)])
            assert (await desk.get(f"s{number}", ME)).progress.counts == {TickOutcome.RUN: 1}


async def test_without_a_server_that_holds_messages_back_gateways_keep_the_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def no(connection: Any) -> bool:
        return False

    async def never(*args: Any) -> None:
        raise AssertionError("this server takes no such message")

    monkeypatch.setattr(wakeups, "keeps_time", no)
    monkeypatch.setattr(wakeups, "wake", never)
    async with running(tmp_path, worker=False) as backend, second_gateway(backend):
        made = await backend.schedules.create("s", wish(catch_up="all"), ME)
        await seen(backend, 4)
        found = await ticks_up_to_now(backend, made.progress.next_tick)
        assert_each_once(found, made.progress.next_tick or 0, max(found))


async def test_a_wake_up_that_nobody_had_asked_for_is_made_up_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def forgotten(*args: Any) -> None:
        return

    monkeypatch.setattr(clockwork, "_PATIENCE_SECONDS", 0.3)
    async with running(tmp_path, worker=False) as backend:
        with monkeypatch.context() as patch:
            patch.setattr(wakeups, "wake", forgotten)
            await backend.schedules.create("s", wish(every_sec=2), ME)
        await seen(backend, 1)


async def test_a_tick_waits_or_is_skipped_or_takes_the_place_of_a_run_that_goes_on(
    tmp_path: Path,
) -> None:
    async with running(tmp_path) as backend:
        first = int(await backend.schedules.now()) + 3
        slow = {"flow_name": "steps", "params": {"seconds": 60}, "every_sec": None}
        await backend.schedules.create(
            "s", wish(**slow, at=[first, first + 2], overlap="cancel_running"), ME
        )
        await seen(backend, 2)
        by_tick = {run.scheduled_at: run for run in await runs_of(backend)}
        before, after = by_tick[float(first)], by_tick[float(first + 2)]
        assert before.status is RunStatus.CANCELLED
        assert before.cancel_requested_by == "schedule:s"
        assert (after.submitted_at or 0) >= (before.end_time or 1e12)
        await backend.cancel(after.run_id)
        await ended(backend, after.run_id)

        first = int(await backend.schedules.now()) + 3
        brief = {**slow, "params": {"seconds": 2}}
        await backend.schedules.create(
            "q", wish(**brief, at=[first, first + 1], overlap="queue"), ME
        )
        # It does not begin before the second is looked at, however late that is.
        await backend.schedules.create(
            "k", wish(**brief, tag="absent", at=[first, first + 1], overlap="skip"), ME
        )
        await seen(backend, 2, "q")
        one, two = sorted(await runs_of(backend, "q"), key=lambda run: run.scheduled_at or 0)
        assert (two.submitted_at or 0) >= (one.end_time or 1e12)

        async def both() -> bool:
            ticks = (await backend.schedules.get("k", ME)).progress.ticks
            return [tick.tick for tick in ticks] == [first, first + 1]

        await eventually(both)
        skipped = (await backend.schedules.get("k", ME)).progress.ticks[-1]
        assert skipped.outcome is TickOutcome.SKIPPED
        assert len(await runs_of(backend, "k")) == 1


async def test_changes_hold_from_now_on_and_are_told_with_who_and_what(tmp_path: Path) -> None:
    async with running(tmp_path, worker=False) as backend:
        desk, ann = backend.schedules, Person(actor="ann")
        await desk.create("s", wish(), ann)
        with pytest.raises(ScheduleExists):
            await desk.create("s", wish(), ann)
        await seen(backend, 1)
        still = await desk.pause("s", ann)
        paused_at = await desk.now()
        await trio.sleep(1.5)
        # What was being made of the last tick before may still have come.
        assert max(await ticks_with_runs(backend)) <= paused_at
        count = len(await ticks_with_runs(backend))
        assert still.progress.wake_at is None
        on = await desk.resume("s", ann)
        await seen(backend, count + 1)
        found = await ticks_with_runs(backend)
        assert len(set(found)) == found.total()
        changed = await desk.patch("s", Wish({"cron": "0 3 * * *", "timezone": "Asia/Tokyo"}), ann)
        assert (changed.spec.every_sec, changed.spec.cron) == (None, "0 3 * * *")
        assert changed.spec.flow_name == "quick"
        with pytest.raises(ScheduleChanged):
            await desk.patch("s", Wish({"name": "x"}), ann, version=on.version)
        same = await desk.patch("s", Wish({"cron": "0  3 * * *"}), ann)
        assert same.version == changed.version
        # Sent again, because an answer was lost, it is no other change.
        again = await desk.patch("s", Wish({"cron": "0 3 * * *"}), ann, version=on.version)
        assert again.version == changed.version
        told = [(change.action, change.changed_by) for change in changed.changes]
        assert told == [(what, "ann") for what in ("create", "pause", "resume", "update")]
        assert {"cron", "every_sec", "timezone"} <= set(changed.changes[-1].fields)
        await desk.delete("s", ann)
        with pytest.raises(ScheduleNotFound):
            await desk.get("s", ann)
        assert not list(desk.listed(None, lambda schedule: True))
        anew = await desk.create("s", wish(), ann)
        assert anew.version == 1


async def test_somebody_runs_it_now_and_a_repeated_call_makes_one_run(tmp_path: Path) -> None:
    async with running(tmp_path, worker=False) as backend:
        desk = backend.schedules
        yearly = wish(every_sec=None, cron="0 0 1 1 *", params={"at": "{{scheduled_at}}"})
        await desk.create("s", yearly, ME)
        first = await desk.asked.trigger("s", ME, idempotency_key="k")
        await trio.sleep(1.1)
        assert (await desk.asked.trigger("s", ME, idempotency_key="k")).run_id == first.run_id
        other = await desk.asked.trigger("s", ME)
        assert other.run_id != first.run_id
        told = (await desk.get("s", ME)).progress
        assert [tick.run_id for tick in told.ticks] == [first.run_id, other.run_id]
        assert told.counts == {}
        assert len(await runs_of(backend)) == 2


@contextmanager
def no_time(desk: ScheduleDesk) -> Iterator[None]:
    """Others take all the time that there is for schedules."""
    room = desk._records._room
    others = [object() for _ in range(int(room.total_tokens))]
    for each in others:
        room.acquire_on_behalf_of_nowait(each)
    try:
        yield
    finally:
        for each in others:
            room.release_on_behalf_of(each)


async def test_a_run_that_somebody_asked_for_is_told_of_where_there_is_no_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(tmp_path, worker=False) as backend:
        desk = backend.schedules
        await desk.create("s", wish(every_sec=None, cron="0 0 1 1 *"), ME)
        monkeypatch.setattr(records, "_READ_SECONDS", 0.1)
        with no_time(desk):
            accepted = await desk.asked.trigger("s", ME)
            for change in (desk.pause("s", ME), desk.patch("s", Wish({"name": "x"}), ME)):
                with pytest.raises(NotComputed):
                    await change
        told = (await desk.get("s", ME)).progress.ticks
        assert [tick.run_id for tick in told] == [accepted.run_id]
        assert [run.run_id for run in await runs_of(backend)] == [accepted.run_id]


async def test_a_rule_that_takes_too_long_is_refused_and_nothing_else_is_called_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "_READ_SECONDS", 0.1)
    async with running(tmp_path, worker=False) as backend:
        desk, end = backend.schedules, threading.Event()

        def slow(*_: Any, **__: Any) -> None:
            end.wait(60)

        monkeypatch.setattr(desk_module, "read_spec", slow)
        try:
            with pytest.raises(InvalidField, match="rrule: takes too long"):
                await desk.preview(Wish({"rrule": "FREQ=DAILY"}), 1)
            with pytest.raises(TakesTooLong):
                await desk.preview(Wish({"cron": "0 0 1 1 *"}), 1)
        finally:
            end.set()


async def test_what_nobody_waits_for_any_more_is_computed_no_further(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "_READ_SECONDS", 0.1)
    async with running(tmp_path, worker=False) as backend:
        desk = backend.schedules
        room = desk._records._room
        with pytest.raises(TakesTooLong):
            await desk.computed(lambda: all(ticks(ScheduleSpec(flow_name="f", every_sec=1), 0)))

        async def given_back() -> bool:
            return room.borrowed_tokens == 0

        await eventually(given_back, within=20)


async def test_a_key_of_a_trigger_that_has_expired_makes_a_new_run(tmp_path: Path) -> None:
    async with running(tmp_path) as backend:
        desk = backend.schedules
        await desk.create("s", wish(every_sec=None, cron="0 0 1 1 *"), ME)
        first = await desk.asked.trigger("s", ME, idempotency_key="k")
        await ended(backend, first.run_id)
        keys = KeyValue(backend.connection, backend.settings.idempotency_kv_bucket)
        for entry in await keys.all():
            await keys.forget(entry.key)
        second = await desk.asked.trigger("s", ME, idempotency_key="k")
        assert not second.replayed
        assert second.run_id != first.run_id
        assert (await ended(backend, second.run_id)).status is RunStatus.COMPLETED


async def test_a_schedule_that_cannot_be_read_is_not_listed_as_it_was(tmp_path: Path) -> None:
    async with running(tmp_path, worker=False) as backend:
        desk = backend.schedules
        made = await desk.create("s", wish(every_sec=3600), ME)
        bucket = KeyValue(backend.connection, backend.settings.schedules_kv_bucket)
        written = (await bucket.get(made.key)).value

        async def listed() -> list[str]:
            return [each.schedule_id for each in desk.listed(None, lambda _: True)]

        async def gone() -> bool:
            return await listed() == [] and desk.board.next_wake() is None

        await bucket.put(made.key, b"{}")
        await eventually(gone)
        await bucket.put(made.key, written)
        await eventually(listed)
        assert desk.board.next_wake() is not None


async def test_what_cannot_be_computed_here_stops_no_other_and_is_looked_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(tmp_path, worker=False) as backend:
        desk = backend.schedules
        bucket = KeyValue(backend.connection, backend.settings.schedules_kv_bucket)
        times: dict[str, dict[str, Any]] = {
            "of-mars": {"timezone": "Mars/X"},
            "of-later": {"cron": "every day at noon"},
            "steady": {"timezone": "Mars/X", "cron": None, "every_sec": 1},
        }
        for schedule_id, fields in times.items():
            made = await desk.create(schedule_id, wish(every_sec=None, cron="0 0 1 1 *"), ME)
            late = made.progress.cursor - 600
            due = {"next_tick": late, "next_due_at": float(late), "wake_at": float(late)}
            progress = replace(made.progress, cursor=late, **due)
            foreign = replace(made, spec=replace(made.spec, **fields), progress=progress)
            await bucket.put(made.key, encode_json(foreign))
        await desk.create("s", wish(), ME)
        await seen(backend, 2)

        async def passed_over() -> bool:
            wake = desk.board.next_wake()
            return wake is not None and wake[1].endswith(".s")

        await eventually(passed_over)
        looks: Counter[str] = Counter()
        get = ScheduleStore.get

        async def counted(self: ScheduleStore, key: str) -> StoredSchedule | None:
            looks[key] += 1
            return await get(self, key)

        with monkeypatch.context() as patch:
            patch.setattr(ScheduleStore, "get", counted)
            await seen(backend, len(await ticks_with_runs(backend)) + 3)
        assert {key for key in looks if not key.endswith(".s")} == set()
        mending = Wish({"timezone": "Asia/Tokyo", "every_sec": 1}, paused=False)
        for schedule_id in times:
            assert (await desk.pause(schedule_id, ME)).paused
            await desk.patch(schedule_id, mending, ME)
            await seen(backend, 1, schedule_id)


async def test_what_is_due_is_written_however_long_it_takes_to_find_all_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(tmp_path, worker=False) as backend:
        desk, due = backend.schedules, rules.due
        at = int(await desk.now()) + 3600
        for number in range(100):
            await desk.create(f"s{number}", wish(every_sec=None, at=[at]), ME)
        keys = [schedule.key for schedule in desk.listed(None, lambda _: True)]

        def slow(schedule: Schedule, now: float) -> rules.Due:
            time.sleep(0.02)
            return due(schedule, now)

        monkeypatch.setattr(rules, "due", slow)
        scheduler = Scheduler(backend.connection, desk.board, desk._records._rounds, desk._alarm)
        written: list[Schedule] = []
        for round_takes, deciding in ((1.5, 0.3), (60.0, 30.0)):
            monkeypatch.setattr(clockwork, "_ROUND_SECONDS", round_takes)
            monkeypatch.setattr(rounds, "_DECIDE_SECONDS", deciding)
            await scheduler._see_to(keys, at_least=at)
            before = len(written)
            written = list(desk.listed(None, lambda s: bool(s.progress.counts)))
            assert len(written) > before
        assert [schedule.progress.counts for schedule in written] == [{TickOutcome.RUN: 1}] * 100
        assert len(await KeyValue(backend.connection, backend.settings.runs_kv_bucket).all()) == 100


class Taking:
    """Takes runs in that are never stored, and tells of each call for which: how many, and how many bytes."""

    def __init__(self, refusal: Exception | None = None) -> None:
        self.pieces: list[tuple[int, int]] = []
        self._refusal = refusal

    async def submit_all(
        self, runs: Sequence[NewRun], *, within: float
    ) -> list[Accepted | Exception]:
        self.pieces.append((len(runs), sum(len(encode_json(run.params)) for run in runs)))
        return [self._refusal or Accepted(run.run_id or "") for run in runs]


async def test_runs_of_many_ticks_are_made_piece_by_piece_beside_other_work() -> None:
    taking, turns = Taking(), 0
    runs = ScheduleRuns(taking, None, None, None, 0)  # type: ignore[arg-type]
    spec = ScheduleSpec(flow_name="f", every_sec=1, params={"x": ["y"] * 4_000})
    of = Schedule(schedule_id="s", spec=spec, progress=ScheduleProgress(cursor=0))

    async def others() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(others)
        outcomes = await runs.submit_all([(of, tick) for tick in range(1_000)])
        nursery.cancel_scope.cancel()
    assert [o.run_id for o in outcomes if isinstance(o, Accepted)] == [
        of.run_id_of(tick) for tick in range(1_000)
    ]
    assert max(size for _, size in taking.pieces) < 3 * 1024 * 1024
    assert turns > 900


async def test_where_nats_is_away_no_further_piece_waits_for_it() -> None:
    away = NotAccepted("NATS did not answer in time")
    taking = Taking(away)
    runs = ScheduleRuns(taking, None, None, None, 0)  # type: ignore[arg-type]
    spec = ScheduleSpec(flow_name="f", every_sec=1)
    of = Schedule(schedule_id="s", spec=spec, progress=ScheduleProgress(cursor=0))
    assert await runs.submit_all([(of, tick) for tick in range(1_000)]) == [away] * 1_000
    assert len(taking.pieces) == 1


async def test_what_there_is_to_make_up_for_gets_further_with_each_visit_and_nobody_waits_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def nobody(_: Scheduler) -> None:
        await trio.sleep_forever()

    monkeypatch.setattr(Scheduler, "take", nobody)
    monkeypatch.setattr(Scheduler, "keep_time", nobody)
    monkeypatch.setattr(rounds, "_START_SECONDS", 0.0)
    submit_all, room, visit = Submitter.submit_all, 0, trio.CancelScope()

    async def slow(
        self: Submitter, runs: Sequence[NewRun], *, within: float
    ) -> list[Accepted | Exception]:
        """The time of a visit is up behind some hundred runs."""
        nonlocal room
        room -= len(runs)
        if room < 0:
            visit.cancel()
        return await submit_all(self, runs, within=within)

    async with running(tmp_path, worker=False) as backend:
        desk = backend.schedules
        bucket = KeyValue(backend.connection, backend.settings.schedules_kv_bucket)
        due = int(await desk.now()) + 3600
        keys = []
        for schedule_id, count in (("many", 1_000), ("one", 1)):
            made = await desk.create(schedule_id, wish(every_sec=None, at=[due + 3600]), ME)
            progress = replace(made.progress, starting=[*range(due, due + count)])
            await bucket.put(made.key, encode_json(replace(made, progress=progress)))
            keys.append(made.key)
        monkeypatch.setattr(Submitter, "submit_all", slow)
        left = [1_000]
        while left[-1]:
            room = 400
            with trio.CancelScope() as visit:
                await desk._records._rounds.see_to(keys)
            assert (await desk.get("one", ME)).progress.starting == []
            left.append(len((await desk.get("many", ME)).progress.starting))
            assert left[-1] < left[-2]
        assert_each_once(await ticks_with_runs(backend, "many"), due, due + 999)
        assert_each_once(await ticks_with_runs(backend, "one"), due, due)
        assert (await desk.get("many", ME)).progress.counts == {TickOutcome.RUN: 1_000}


async def test_without_a_thread_a_schedule_is_looked_at_again_and_all_else_goes_on(
    tmp_path: Path,
) -> None:
    async with running(tmp_path, worker=False) as backend:
        desk = backend.schedules
        due = int(await desk.now()) + 3600
        made = await desk.create("s", wish(every_sec=None, at=[due]), ME)
        see_to = partial(desk._records._rounds.see_to, [made.key], now=due + 1.0)
        with no_threads_for(rounds) as refused:
            assert isinstance((await see_to())[made.key], NotComputed)
        assert refused
        with no_threads_for(records):
            accepted = await desk.asked.trigger("s", ME)
            for change in (desk.pause("s", ME), desk.patch("s", Wish({"name": "x"}), ME)):
                with pytest.raises(NotComputed):
                    await change
        assert (await desk.get("s", ME)).progress.ticks[-1].run_id == accepted.run_id
        assert isinstance((await see_to())[made.key], StoredSchedule)
        assert float(due) in await ticks_with_runs(backend)


@pytest.mark.parametrize(
    "error",
    [ActorDown("it crashed"), AskExpired("no answer"), UnreadableSnapshot("no snapshot")],
    ids=lambda error: type(error).__name__,
)
async def test_a_run_that_cannot_be_cancelled_keeps_its_schedule_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    async def cancel(self: ScheduleRuns, schedule: Schedule, run_ids: Sequence[str]) -> None:
        if run_ids:
            raise error

    async def going_on(self: ScheduleRuns, run_ids: Sequence[str]) -> list[str]:
        return [*run_ids]

    monkeypatch.setattr(ScheduleRuns, "cancel", cancel)
    monkeypatch.setattr(ScheduleRuns, "going_on", going_on)
    async with running(tmp_path, worker=False) as backend:
        desk = backend.schedules
        bucket = KeyValue(backend.connection, backend.settings.schedules_kv_bucket)
        due = int(await desk.now()) + 3600
        keys = []
        for schedule_id, active in (("s", []), ("held", ["r"])):
            times = wish(every_sec=None, at=[due], overlap="cancel_running")
            made = await desk.create(schedule_id, times, ME)
            keys.append(made.key)
            await bucket.put(
                made.key, encode_json(replace(made, progress=replace(made.progress, active=active)))
            )
        outcomes = await desk._records._rounds.see_to(keys, at_least=due)
        assert outcomes[keys[1]] is error
        assert isinstance(outcomes[keys[0]], StoredSchedule)
        assert await ticks_with_runs(backend, "s") == Counter([float(due)])


async def test_a_schedule_that_others_write_all_the_time_is_to_be_changed_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def lost(*_: Any) -> None:
        return None

    async with running(tmp_path, worker=False) as backend:
        desk = backend.schedules
        due = int(await desk.now()) + 3600
        made = await desk.create("s", wish(every_sec=None, at=[due]), ME)
        monkeypatch.setattr(ScheduleStore, "update", lost)
        with pytest.raises(SchedulesUnavailable), records.asking():
            await desk._records._rounds.look(made.key, due + 1.0)


async def test_a_schedule_that_was_deleted_leaves_a_marker_for_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pyoco_server.store.schedules._MARKER_SECONDS", 1)
    async with running(tmp_path, worker=False) as backend:
        await backend.schedules.create("s", wish(every_sec=None, cron="0 0 1 1 *"), ME)
        assert await queued(backend, "KV_pyoco_schedules") == 1
        await backend.schedules.delete("s", ME)

        async def nothing() -> bool:
            return await queued(backend, "KV_pyoco_schedules") == 0

        await eventually(nothing, what="no marker")


def test_a_schedule_that_is_written_again_and_again_is_looked_at_once() -> None:
    board = ScheduleBoard(None)  # type: ignore[arg-type]
    progress = ScheduleProgress(cursor=0, wake_at=5.0)
    schedule = Schedule(schedule_id="s", spec=ScheduleSpec(flow_name="f"), progress=progress)
    for revision in range(1, 100):
        board.note(StoredSchedule(replace(schedule, version=revision), revision))
    assert board._wakes == [(5.0, schedule.key)]
    board.pass_over(StoredSchedule(schedule, 99))
    assert board.next_wake() is None
    board.note(StoredSchedule(schedule, 100))
    assert board.next_wake() == (5.0, schedule.key)


async def test_a_backfill_tells_of_a_tick_whose_run_is_gone_and_whose_key_is_not(
    tmp_path: Path,
) -> None:
    async with running(tmp_path, worker=False) as backend:
        desk = backend.schedules
        now = int(await desk.now())
        await desk.create("s", wish(every_sec=None, at=[now - 20, now - 10]), ME)
        filled = await desk.asked.backfill("s", ME, now - 20, now - 20, 1, dry_run=False)
        assert [item.outcome for item in filled.items] == ["submitted"]
        runs = KeyValue(backend.connection, backend.settings.runs_kv_bucket)
        await runs.forget(filled.items[0].run_id)
        again = await desk.asked.backfill("s", ME, now - 20, now - 10, 9, dry_run=False)
        assert [item.outcome for item in again.items] == ["failed", "submitted"]
        assert "its run is gone" in (again.items[0].reason or "")
        assert "runs=1" in (await desk.get("s", ME)).changes[-1].fields


async def test_a_backfill_makes_the_runs_that_are_missing_and_no_second_ones(
    tmp_path: Path,
) -> None:
    async with running(tmp_path, worker=False) as backend:
        desk = backend.schedules
        end = int(await desk.now())  # ticks that fall due meanwhile are behind it
        await desk.create("s", wish(every_sec=60), ME)
        begin = end - end % 60 - 240
        plan = await desk.asked.backfill("s", ME, begin, end, 3, dry_run=True)
        assert [item.tick_at for item in plan.items] == [begin, begin + 60, begin + 120]
        assert plan.more
        assert {item.outcome for item in plan.items} == {"would_submit"}
        assert [run for run in await runs_of(backend) if (run.scheduled_at or 0) <= end] == []
        done = await desk.asked.backfill("s", ME, begin, end, 3, dry_run=False)
        assert {item.outcome for item in done.items} == {"submitted"}
        again = await desk.asked.backfill("s", ME, begin, end, 100, dry_run=False)
        assert [item.outcome for item in again.items] == ["exists"] * 3 + ["submitted"] * 2
        assert set((await ticks_with_runs(backend)).values()) == {1}
        assert (await desk.get("s", ME)).changes[-1].action == "backfill"
        with pytest.raises(InvalidField):
            await desk.asked.backfill("s", ME, begin, end + 3600, 3, dry_run=True)


async def test_a_schedule_brings_its_flow_and_keeps_it(tmp_path: Path) -> None:
    text = (
        "version: 1\nflow:\n  graph: a\n  defaults: {x: 1, y: 2}\n"
        "tasks:\n  a:\n    callable: math:sqrt\nruntime: {}\n"
    )
    async with running(tmp_path, worker=False) as backend:
        file = parse_flow_yaml(text.encode(), max_bytes=10_000)
        brings = Wish({"flow_name": "main", "tag": TAG, "every_sec": 1, "params": {"x": 5}}, file)
        made = await backend.schedules.create("s", brings, ME)
        assert made.spec.workflow_yaml_sha256 == file.sha256
        await seen(backend, 1)
        run = (await runs_of(backend))[0]
        assert run.workflow_yaml_sha256 == file.sha256
        assert run.params == {"x": 5, "y": 2}


async def test_limits_of_the_flow_yaml_and_of_the_schedule_are_those_of_its_runs(
    tmp_path: Path,
) -> None:
    text = (
        "version: 1\nflow: {graph: a}\ntasks: {a: {callable: math:sqrt}}\n"
        "runtime: {memory_mb: 300, cpu_sec: 9, timeout_sec: 8}\n"
    )
    async with running(tmp_path, worker=False) as backend:
        file = parse_flow_yaml(text.encode(), max_bytes=10_000)
        fields = {"flow_name": "main", "tag": TAG, "every_sec": 1, "cpu_sec": 5}
        fields |= {"queue_ttl_sec": 60, "expected_end_within_sec": 9}
        await backend.schedules.create("s", Wish(fields, file), ME)
        await seen(backend, 1)
        run = (await runs_of(backend))[0]
        assert (run.memory_mb, run.cpu_sec, run.timeout_sec) == (300, 5, 8)
        assert known(run.expires_at) == pytest.approx((run.submitted_at or 0) + 60, abs=30)
        assert run.expected_end_within_sec == 9


async def test_when_it_is_due_cannot_be_taken_away_alone(tmp_path: Path) -> None:
    async with running(tmp_path, worker=False) as backend:
        await backend.schedules.create(
            "s", Wish({"flow_name": "main", "tag": TAG, "every_sec": 9}), ME
        )
        for name in ("every_sec", "at"):
            with pytest.raises(InvalidField, match="is not taken away alone"):
                await backend.schedules.patch("s", Wish({name: None}), ME)
        changed = await backend.schedules.patch(
            "s", Wish({"every_sec": None, "cron": "0 * * * *"}), ME
        )
        assert (changed.spec.every_sec, changed.spec.cron) == (None, "0 * * * *")


async def test_a_change_between_submitting_and_writing_down_stops_no_schedule(
    tmp_path: Path,
) -> None:
    async with running(tmp_path, worker=False) as backend:
        made = await backend.schedules.create("s", wish(every_sec=3, params={"x": 1}), ME)
        tick = made.progress.next_tick or 0
        desk = backend.schedules
        await desk._runs.submit([(made, tick)], now=float(tick))
        await desk.patch("s", Wish({"params": {"x": 2}}), ME)
        await seen(backend, 2)
        params = {run.scheduled_at: run.params for run in await runs_of(backend)}
        assert (params[tick], params[tick + 3]) == ({"x": 1}, {"x": 2})
        first = (await desk.get("s", ME)).progress.ticks[0]
        assert (first.outcome, first.run_id) == (TickOutcome.RUN, made.run_id_of(tick))


async def test_a_tick_that_falls_due_while_a_change_is_made_goes_by_what_there_was_or_will_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(tmp_path, worker=False) as backend:
        desk = backend.schedules
        due = int(await desk.now()) + 4
        await desk.create("s", wish(every_sec=None, at=[due, due + 3600]), ME)
        time_is, look = due - 0.001, Rounds.look

        async def now(_: ScheduleStore) -> float:
            return time_is

        async def look_until_it_is_due(self: Rounds, *args: Any) -> StoredSchedule | None:
            nonlocal time_is
            looked_at = await look(self, *args)
            time_is = due + 0.001
            return looked_at

        with monkeypatch.context() as patch:
            patch.setattr(ScheduleStore, "now", now)
            patch.setattr(Rounds, "look", look_until_it_is_due)
            changed = await desk.patch("s", Wish({"at": [due, due + 7200]}), ME)
        assert time_is > due
        assert changed.progress.next_tick == due
        await seen(backend, 1)


async def test_a_text_that_no_schedule_names_any_more_is_removed_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def bringing(number: int) -> Wish:
        file = parse_flow_yaml(FLOW_YAML.replace("x: 1", f"x: {number}").encode(), max_bytes=10_000)
        return Wish({"flow_name": "main", "tag": TAG, "every_sec": 3600}, file)

    async with running(tmp_path, worker=False) as backend:
        desk = backend.schedules
        bucket = KeyValue(backend.connection, backend.settings.schedules_kv_bucket)
        sweep = partial(text_keeper.sweep_texts, backend.connection, bucket, desk.board)
        used, unused = bringing(1), bringing(2)
        await desk.create("used", used, ME)
        await desk.create("unused", unused, ME)
        await desk.delete("unused", ME)
        assert await sweep() == 0, "it may be that of a schedule that is just being made"
        monkeypatch.setattr(text_keeper, "_UNUSED_SECONDS", -1.0)
        monkeypatch.setattr(desk.board, "all", lambda wanted: [])
        assert await sweep() == 1, "what is followed here may be behind"
        for wished, kept in ((used, True), (unused, False)):
            assert wished.file is not None
            assert (await desk.flow_text(wished.file.sha256) is not None) is kept


async def test_tenants_have_schedules_apart(tmp_path: Path) -> None:
    async with running(tmp_path, worker=False) as backend:
        desk, a, b = backend.schedules, Person("a", "key-a"), Person("b", "key-b")
        await desk.create("s", wish(), a)
        with pytest.raises(ScheduleNotFound):
            await desk.get("s", b)
        await desk.create("s", wish(every_sec=3600), b)
        assert [s.tenant_id for s in desk.listed("b", lambda schedule: True)] == ["b"]
        assert len(list(desk.listed(None, lambda schedule: True))) == 2
        await seen(backend, 1)
        assert {(run.tenant_id, run.api_key_id) for run in await runs_of(backend)} == {
            ("a", "key-a")
        }


async def test_what_is_looked_at_while_it_is_deleted_leaves_nothing(tmp_path: Path) -> None:
    async with running(tmp_path, worker=False) as backend:
        await backend.schedules.create("s", wish(), ME)
        await seen(backend, 1)
        await backend.schedules.delete("s", ME)
        count = len(await ticks_with_runs(backend))
        await trio.sleep(1.2)
        assert len(await ticks_with_runs(backend)) <= count + 1
        assert await backend.schedules._records._rounds.look("schedule._.s", time.time()) is None
        assert len(backend.schedules.board) == 0
