"""Restarts from outside."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from pyoco_server.kernel import (
    ActorDown,
    ActorSystem,
    Backoff,
    Intensity,
    Restart,
    State,
    Strategy,
    UnknownActor,
)

from .faults import Boom, Script, Step, crash, delay, hang
from .probe import Echo, Journal, crash_now, find, node, probe, running, tree


async def test_restart_stops_in_good_order_and_starts_again(autojump_clock: MockClock) -> None:
    journal = Journal()
    spec = probe("a", journal, Script({Step.HANDLE: delay(2)}))
    async with running(spec, probe("b", journal), strategy=Strategy.ONE_FOR_ALL) as system:
        for text in ("in hand", "waiting"):
            spec.ref.try_tell(text)
        await wait_all_tasks_blocked()
        await system.restart("/a")
        found = node(system, "/a")
        assert (found.incarnation, found.restarts, found.last_error) == (2, 0, None)
        assert node(system, "/b").incarnation == 1
        await trio.sleep(10)
    assert journal.entries == [
        *("start a", "start b", "a: in hand", "stop a", "start a", "a: waiting"),
        *("stop b", "stop a"),
    ]


async def test_restarts_from_outside_are_no_crashes(autojump_clock: MockClock) -> None:
    spec = probe("a", Journal())
    async with running(spec, intensity=Intensity(restarts=0)) as system:
        for _ in range(50):
            await system.restart("/a")
        assert node(system, "/a").incarnation == 51


async def test_restart_of_a_supervisor(autojump_clock: MockClock) -> None:
    journal = Journal()
    a = probe("a", journal)
    nested = tree(a, tree(probe("b", journal), name="inner"), name="nested")
    async with running(nested, probe("c", journal)) as system:
        await crash_now(a.ref)
        journal.take()
        await system.restart("/nested")
        assert journal.take() == ["stop b", "stop a", "start a", "start b"]
        assert node(system, "/nested").incarnation == 2
        assert node(system, "/nested/inner").incarnation == 2
        assert node(system, "/nested/inner/b").incarnation == 2
        # What was known of a place is kept: incarnations never repeat.
        assert node(system, "/nested/a").incarnation == 3
        assert node(system, "/nested/a").restarts == 1
        assert node(system, "/nested/a").last_error == "Boom: boom"
        assert await a.ref.ask(Echo(), within=5) == "hello"


async def test_restart_of_one_that_backs_off_does_not_start_it_twice(
    autojump_clock: MockClock,
) -> None:
    journal = Journal()
    spec = probe("a", journal)
    async with running(spec, backoff=Backoff(initial=10, jitter=0)) as system:
        await crash_now(spec.ref)
        await system.restart("/a")
        await trio.sleep(60)
        assert node(system, "/a").incarnation == 2
    assert journal.entries == ["start a", "stop a", "start a", "stop a"]


@pytest.mark.parametrize("step", [Step.CONSTRUCTOR, Step.ON_START])
async def test_restart_that_fails_is_told_and_counts_as_a_crash(
    autojump_clock: MockClock, step: Step
) -> None:
    spec = probe("a", Journal(), Script({step: crash(Boom("no start"))}, lives={2}))
    async with running(
        spec, backoff=Backoff(initial=10, jitter=0), intensity=Intensity(restarts=1)
    ) as system:
        with pytest.raises(Exception) as info:  # noqa: PT011 - bare from the constructor, grouped from on_start
            await system.restart("/a")
        assert find(info.value, Boom) is not None
        await wait_all_tasks_blocked()
        assert node(system, "/a").state is State.BACKING_OFF
        await trio.sleep(11)
        assert node(system, "/a").incarnation == 3


async def test_restart_that_fails_once_too_often_ends_the_supervisor(
    autojump_clock: MockClock,
) -> None:
    spec = probe("a", Journal(), Script({Step.ON_START: crash(Boom("no start"))}, lives={2}))
    nested = tree(spec, name="nested", intensity=Intensity(restarts=0))
    async with running(nested) as system:
        with pytest.raises(ExceptionGroup):
            await system.restart("/nested/a")
        await trio.sleep(1)
        assert node(system, "/nested").incarnation == 2
        assert node(system, "/nested/a").incarnation == 3


async def test_a_temporary_actor_may_be_restarted_by_hand(autojump_clock: MockClock) -> None:
    script = Script({Step.ON_START: crash(Boom("no start"))}, lives={3})
    spec = probe("a", Journal(), script, restart=Restart.TEMPORARY)
    async with running(spec) as system:
        await crash_now(spec.ref)
        await system.restart("/a")
        assert await spec.ref.ask(Echo(), within=5) == "hello"
        with pytest.raises(ExceptionGroup):
            await system.restart("/a")
        await trio.sleep(10)
        assert node(system, "/a").incarnation == 3
        assert node(system, "/a").state is State.STOPPED


async def test_a_restart_by_hand_starts_the_backoff_over(autojump_clock: MockClock) -> None:
    spec = probe("a", Journal())
    async with running(spec, backoff=Backoff(initial=1, maximum=100, jitter=0)) as system:
        for _ in range(3):
            await crash_now(spec.ref, settle=10)
        await system.restart("/a")
        await crash_now(spec.ref, settle=1.1)
        assert node(system, "/a").state is State.IDLE


@pytest.mark.parametrize("path", ["/", "/nowhere", "a", ""])
async def test_restart_of_nothing(autojump_clock: MockClock, path: str) -> None:
    async with running(probe("a", Journal())) as system:
        with pytest.raises(UnknownActor):
            await system.restart(path)


async def test_a_cancelled_restart_goes_on(autojump_clock: MockClock) -> None:
    spec = probe("a", Journal(), Script({Step.ON_START: delay(5)}))
    async with running(spec) as system:
        with trio.move_on_after(1):
            await system.restart("/a")
        await trio.sleep(10)
        assert node(system, "/a").incarnation == 2
        assert node(system, "/a").state is State.IDLE


@pytest.mark.parametrize("steps", range(8))
async def test_a_restart_that_the_end_overtakes_is_told(
    autojump_clock: MockClock, steps: int
) -> None:
    spec = probe("a", Journal(), Script({Step.ON_START: hang}, lives={2}))
    outcomes: list[str] = []

    async def restart(system: ActorSystem) -> None:
        try:
            await system.restart("/a")
        except ActorDown as error:
            outcomes.append(str(error))

    async with trio.open_nursery() as nursery, running(spec) as system:
        nursery.start_soon(restart, system)
        nursery.start_soon(restart, system)
        for _ in range(steps):
            await trio.lowlevel.checkpoint()
    assert len(outcomes) == 2
    assert set(outcomes) <= {
        "the supervisor / stopped before it was done",
        "the supervisor / does not run",
    }


async def test_a_restart_below_a_supervisor_that_does_not_run_is_refused(
    autojump_clock: MockClock,
) -> None:
    a = probe("a", Journal())
    nested = tree(a, name="nested", intensity=Intensity(restarts=0))
    async with running(nested, backoff=Backoff(initial=10, jitter=0)) as system:
        await crash_now(a.ref)
        assert node(system, "/nested").state is State.BACKING_OFF
        with pytest.raises(ActorDown, match="the supervisor /nested does not run"):
            await system.restart("/nested/a")
        await system.restart("/nested")
        await system.restart("/nested/a")
    with pytest.raises(ActorDown, match="the supervisor / does not run"):
        await system.restart("/nested")
