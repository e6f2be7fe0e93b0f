"""Commands from outside: restart, start_child, stop_child."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from pyoco_server.kernel import (
    ActorDown,
    ActorSystem,
    Backoff,
    Intensity,
    InvalidSpec,
    Restart,
    State,
    Strategy,
    UnknownActor,
)

from .faults import Boom, Script, Step, crash, delay, hang
from .probe import Do, Echo, Journal, Probe, boom, crash_now, find, node, probe, running, tree


def paths(system: ActorSystem) -> list[str]:
    return [each.path for each in system.tree().walk()]


# Restart from outside


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


async def test_commands_to_a_supervisor_that_does_not_run_are_refused(
    autojump_clock: MockClock,
) -> None:
    a = probe("a", Journal())
    nested = tree(a, name="nested", intensity=Intensity(restarts=0))
    async with running(nested, backoff=Backoff(initial=10, jitter=0)) as system:
        await crash_now(a.ref)
        assert node(system, "/nested").state is State.BACKING_OFF
        with pytest.raises(ActorDown, match="the supervisor /nested does not run"):
            await system.restart("/nested/a")
        with pytest.raises(ActorDown):
            await system.start_child("/nested", probe("b", Journal()))
        await system.restart("/nested")
        await system.restart("/nested/a")
    with pytest.raises(ActorDown, match="the supervisor / does not run"):
        await system.restart("/nested")


# Children that come and go


async def test_a_child_started_later_is_a_child_like_the_others(autojump_clock: MockClock) -> None:
    journal = Journal()
    a, late = probe("a", journal), probe("late", journal)
    nested = tree(a, name="nested", strategy=Strategy.ONE_FOR_ALL)
    async with running(nested) as system:
        await system.start_child("/nested", late)
        assert system.ref("/nested/late") is late.ref
        assert await late.ref.ask(Echo(), within=5) == "hello"
        await crash_now(a.ref)
        assert node(system, "/nested/late").incarnation == 2
        await system.restart("/nested")
        assert node(system, "/nested/late").incarnation == 3
        journal.take()
    assert journal.take() == ["stop late", "stop a"]


async def test_a_whole_subtree_may_be_started_and_stopped(autojump_clock: MockClock) -> None:
    journal = Journal()
    async with running() as system:
        for _ in range(2):
            subtree = tree(probe("a", journal), tree(probe("b", journal), name="in"), name="sub")
            await system.start_child("/", subtree)
            assert paths(system) == ["/", "/sub", "/sub/a", "/sub/in", "/sub/in/b"]
            assert node(system, "/sub/in/b").incarnation == 1
            await system.stop_child("/sub")
            assert paths(system) == ["/"]
            assert journal.take() == ["start a", "start b", "stop b", "stop a"]


async def test_stop_child_drains_and_frees_the_path(autojump_clock: MockClock) -> None:
    journal = Journal()
    async with running(probe("b", journal)) as system:
        for _ in range(3):
            spec = probe("a", journal, Script({Step.HANDLE: delay(1)}))
            await system.start_child("/", spec)
            spec.ref.try_tell("drained")
            await system.stop_child("/a")
            with pytest.raises(ActorDown):
                spec.ref.try_tell("late")
            with pytest.raises(UnknownActor):
                system.ref("/a")
            assert paths(system) == ["/", "/b"]
            assert journal.take()[-3:] == ["start a", "a: drained", "stop a"]


async def test_a_child_of_the_spec_may_be_stopped_too(autojump_clock: MockClock) -> None:
    a, b = probe("a", Journal()), probe("b", Journal())
    async with running(tree(a, b, name="nested", strategy=Strategy.ONE_FOR_ALL)) as system:
        await system.stop_child("/nested/a")
        await system.restart("/nested")
        await crash_now(b.ref)
        assert paths(system) == ["/", "/nested", "/nested/b"]
        with pytest.raises(UnknownActor):
            await system.stop_child("/nested/a")


async def test_stop_child_voids_a_restart_that_waits(autojump_clock: MockClock) -> None:
    journal = Journal()
    spec = probe("a", journal)
    async with running(spec, backoff=Backoff(initial=10, jitter=0)) as system:
        await crash_now(spec.ref)
        await system.stop_child("/a")
        await trio.sleep(60)
        assert journal.entries == ["start a", "stop a"]


async def test_a_temporary_child_leaves_when_it_ends(autojump_clock: MockClock) -> None:
    async def end(me: Probe) -> None:
        me.stop()

    journal = Journal()
    async with running(probe("a", journal), strategy=Strategy.ONE_FOR_ALL) as system:
        for act in (end, boom):
            spec = probe("brief", journal, restart=Restart.TEMPORARY)
            await system.start_child("/", spec)
            await spec.ref.tell(Do(act))
            await trio.sleep(1)
            assert paths(system) == ["/", "/a"]
            with pytest.raises(ActorDown):
                spec.ref.try_tell("late")
        # It leaves too when it is stopped with its group.
        await system.start_child("/", probe("brief", journal, restart=Restart.TEMPORARY))
        await crash_now(system.ref("/a"))
        assert paths(system) == ["/", "/a"]
        await system.start_child("/", probe("brief", journal, restart=Restart.TEMPORARY))
        await system.start_child("/", probe("other", journal, restart=Restart.TEMPORARY))
    assert journal.entries[-3:] == ["stop other", "stop brief", "stop a"]


@pytest.mark.parametrize("step", [Step.CONSTRUCTOR, Step.ON_START])
async def test_a_child_that_fails_to_start_is_not_added(
    autojump_clock: MockClock, step: Step
) -> None:
    journal = Journal()
    spec = probe("a", journal, Script({step: crash(Boom("no start"))}, lives={1}))
    async with running(intensity=Intensity(restarts=0)) as system:
        with pytest.raises(Exception) as info:  # noqa: PT011 - bare from the constructor, grouped from on_start
            await system.start_child("/", spec)
        assert find(info.value, Boom) is not None
        await trio.sleep(10)
        assert paths(system) == ["/"]
        await system.start_child("/", spec)  # the same spec may be tried again
        assert await spec.ref.ask(Echo(), within=5) == "hello"


async def test_start_child_refuses_what_cannot_stand_there(autojump_clock: MockClock) -> None:
    a = probe("a", Journal())
    async with running(a) as system:
        with pytest.raises(InvalidSpec, match="supervisor / already has a child 'a'"):
            await system.start_child("/", probe("a", Journal()))
        with pytest.raises(InvalidSpec, match="used twice"):
            await system.start_child("/", tree(probe("b", Journal()), a, name="nested"))
        with pytest.raises(UnknownActor, match="'/a' is an actor, not a supervisor"):
            await system.start_child("/a", probe("b", Journal()))
        with pytest.raises(UnknownActor):
            await system.start_child("/nowhere", probe("b", Journal()))
        assert paths(system) == ["/", "/a"]
        await system.start_child("/", tree(probe("b", Journal()), name="nested"))
        assert paths(system) == ["/", "/a", "/nested", "/nested/b"]


async def test_commands_in_a_queue_see_what_the_earlier_ones_did(autojump_clock: MockClock) -> None:
    spec = probe("a", Journal(), Script({Step.ON_STOP: delay(1)}))
    outcomes: list[str] = []

    async def attempt(command: Any) -> None:
        try:
            await command("/a")
        except UnknownActor as error:
            outcomes.append(str(error))

    async with running(spec) as system, trio.open_nursery() as nursery:
        nursery.start_soon(attempt, system.stop_child)
        await wait_all_tasks_blocked()
        nursery.start_soon(attempt, system.stop_child)
        nursery.start_soon(attempt, system.restart)
    assert outcomes == ["/a has left the tree"] * 2


@pytest.mark.parametrize("restart", Restart)
async def test_an_end_that_is_seen_only_after_the_child_left_is_nothing_any_more(
    autojump_clock: MockClock, restart: Restart
) -> None:
    slow = probe("slow", Journal(), Script({Step.ON_STOP: delay(4)}))
    async with running(slow, intensity=Intensity(restarts=0)) as system:
        await system.start_child("/", a := probe("a", Journal(), restart=restart))
        async with trio.open_nursery() as nursery:
            for path in ("/slow", "/a"):
                nursery.start_soon(system.stop_child, path)
                await wait_all_tasks_blocked()
            await crash_now(a.ref)
        await trio.sleep(10)
        assert paths(system) == ["/"]


async def test_an_actor_that_stops_itself_through_the_system_is_cancelled_in_time(
    autojump_clock: MockClock,
) -> None:
    spec = probe("a", Journal(), shutdown_seconds=3)
    async with running(spec) as system:

        async def stop_me(me: Probe) -> None:
            await system.stop_child(me.path)

        began = trio.current_time()
        with pytest.raises(ActorDown):
            await spec.ref.ask(Do(stop_me), within=60)
        assert trio.current_time() == began + 3
        await wait_all_tasks_blocked()
        assert paths(system) == ["/"]
