"""The registry, commands from outside (restart, start_child, stop_child), monitors, several systems."""

from __future__ import annotations

import gc
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from pyoco_server.kernel import (
    Actor,
    ActorDown,
    ActorRef,
    ActorSystem,
    Backoff,
    ChildSpec,
    Down,
    Intensity,
    InvalidSpec,
    Node,
    Reply,
    Restart,
    State,
    Strategy,
    UnknownActor,
)
from pyoco_server.kernel.mailbox import Mailbox
from pyoco_server.kernel.record import Record

from .faults import Boom, Script, Step, crash, delay, hang
from .probe import Do, Echo, Journal, Probe, boom, crash_now, find, probe, running, tree


def node(system: ActorSystem, path: str) -> Node:
    found = system.tree().find(path)
    assert found is not None
    return found


def paths(system: ActorSystem) -> list[str]:
    return [each.path for each in system.tree().walk()]


# Registry


async def test_actors_are_found_by_path(autojump_clock: MockClock) -> None:
    a, b = probe("a", Journal()), probe("b", Journal())
    async with running(a, tree(b, name="nested")) as system:
        assert system.ref("/a") is a.ref
        assert system.ref("/nested/b") is b.ref
        assert a.ref.path == "/a"
        with pytest.raises(UnknownActor, match="no actor at '/b'; there are: /a, /nested/b"):
            system.ref("/b")
        with pytest.raises(UnknownActor):
            system.ref("/nested")  # a supervisor takes no messages


async def test_an_empty_system_knows_nobody(autojump_clock: MockClock) -> None:
    async with running() as system:
        with pytest.raises(UnknownActor, match="there are: none"):
            system.ref("/a")


async def test_a_path_is_known_before_its_actor_started(autojump_clock: MockClock) -> None:
    journal = Journal()
    younger = probe("younger", journal)

    async def tell_younger() -> None:
        await younger.ref.tell("from an older one")

    async with running(probe("older", journal, Script({Step.ON_START: tell_younger})), younger):
        pass
    assert journal.count("younger: from an older one") == 1


async def test_one_spec_stands_in_one_place(autojump_clock: MockClock) -> None:
    spec = probe("a", Journal())
    with pytest.raises(InvalidSpec, match="the spec of /a is used twice"):
        async with running(spec, tree(spec, name="nested")):
            pytest.fail("entered")


async def test_a_running_spec_cannot_stand_in_another_system(autojump_clock: MockClock) -> None:
    spec = probe("a", Journal())
    async with running(spec):
        with pytest.raises(InvalidSpec, match="used twice"):
            async with running(spec):
                pytest.fail("entered")
        assert await spec.ref.ask(Echo(), within=5) == "hello"


async def test_a_spec_may_be_run_again_after_its_system_ended(autojump_clock: MockClock) -> None:
    journal = Journal()
    a, b = probe("a", journal), probe("b", journal)

    async def tell_b() -> None:
        await b.ref.tell("early")

    teller = probe("teller", journal, Script({Step.ON_START: tell_b}))
    for _ in range(2):
        async with running(teller, a, b):
            assert await a.ref.ask(Echo(), within=5) == "hello"
        assert journal.take().count("b: early") == 1


async def test_systems_in_one_process_do_not_know_each_other(autojump_clock: MockClock) -> None:
    one, two = Journal(), Journal()
    in_one, in_two = probe("a", one), probe("a", two)
    async with running(in_one) as first, running(in_two) as second:
        assert first.ref("/a") is in_one.ref
        assert second.ref("/a") is in_two.ref
        await crash_now(in_one.ref)
        assert node(first, "/a").incarnation == 2
        assert node(second, "/a").incarnation == 1

        async def watch_stranger(me: Probe) -> None:
            with pytest.raises(UnknownActor, match="no actor at '/a' to monitor"):
                me.monitor(in_two.ref)

        await in_one.ref.ask(Do(watch_stranger), within=5)
    assert two.entries == ["start a", "stop a"]


async def test_a_system_may_run_inside_of_an_actor(autojump_clock: MockClock) -> None:
    journal = Journal()
    inner = probe("inner", journal)

    class Outer(Actor[str]):
        async def on_start(self) -> None:
            self.spawn(self.run_inner)

        async def run_inner(self) -> None:
            async with running(inner):
                await trio.sleep_forever()

        async def handle(self, message: str) -> None:
            journal.note(message)
            await crash_now(inner.ref)

    outer = ChildSpec("outer", Outer)
    async with running(outer):
        await outer.ref.tell("crash the inner one")
        await trio.sleep(1)
        assert await inner.ref.ask(Echo("from outside"), within=5) == "from outside"
    assert journal.entries == [
        "start inner",
        "crash the inner one",
        "stop inner",
        "start inner",
        "inner: from outside",
        "stop inner",
    ]


async def test_a_failing_inner_system_is_a_crash_of_its_actor(autojump_clock: MockClock) -> None:
    inner_spec = [probe("inner", Journal()) for _ in range(2)]
    inner = iter(inner_spec)

    class Outer(Actor[str]):
        async def on_start(self) -> None:
            self.spawn(self.run_inner)

        async def run_inner(self) -> None:
            async with running(next(inner), intensity=Intensity(restarts=0)):
                await trio.sleep_forever()

        async def handle(self, message: str) -> None:
            raise NotImplementedError

    async with running(ChildSpec("outer", Outer)) as system:
        await crash_now(inner_spec[0].ref, settle=1)
        assert node(system, "/outer").incarnation == 2
        assert await inner_spec[1].ref.ask(Echo(), within=5) == "hello"


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


# Monitors


async def watch(watcher: ChildSpec[Any], watched: ChildSpec[Any]) -> None:
    async def monitor(me: Probe) -> None:
        me.monitor(watched.ref)
        me.monitor(watched.ref)

    await watcher.ref.ask(Do(monitor), within=5)


async def test_a_watcher_hears_of_each_end(autojump_clock: MockClock) -> None:
    journal = Journal()

    async def end(me: Probe) -> None:
        me.stop()

    script = Script({Step.ON_START: crash(Boom("no start"))}, lives={3})
    watched, watcher = probe("watched", Journal(), script), probe("watcher", journal)
    async with running(tree(watched, name="nested"), watcher) as system:
        await watch(watcher, watched)
        await crash_now(watched.ref)
        await watched.ref.tell(Do(end))
        await trio.sleep(1)
        await system.restart("/nested/watched")
        await system.restart("/nested")
        await trio.sleep(1)
        path = "/nested/watched"
        assert journal.downs == [
            Down(path, 1, "Boom: boom"),
            Down(path, 2, None),
            Down(path, 3, "Boom: no start"),
            Down(path, 4, None),
            Down(path, 5, None),
        ]


async def test_a_watcher_hears_of_it_over_its_own_restarts(autojump_clock: MockClock) -> None:
    journal = Journal()
    watched, watcher = probe("watched", Journal()), probe("watcher", journal)
    async with running(watched, watcher):
        await watch(watcher, watched)
        await crash_now(watcher.ref)
        await crash_now(watched.ref)
        assert [down.incarnation for down in journal.downs] == [1]


async def test_a_full_mailbox_has_room_for_downs(autojump_clock: MockClock) -> None:
    journal = Journal()
    script = Script({Step.HANDLE: delay(5)})
    watched = probe("watched", Journal())
    watcher = probe("watcher", journal, script, mailbox_capacity=1)
    order: list[str] = []

    async def tell(text: str) -> None:
        await watcher.ref.tell(text)
        order.append(text)

    async with running(watched, watcher) as system, trio.open_nursery() as nursery:
        await watch(watcher, watched)
        await watcher.ref.tell("in hand")
        await wait_all_tasks_blocked()
        await watcher.ref.tell("waiting")
        for text in ("one", "two", "three"):
            nursery.start_soon(tell, text)
            await wait_all_tasks_blocked()
        for _ in range(3):
            await crash_now(watched.ref)
        box = node(system, "/watcher").mailbox
        assert box is not None
        assert (box.depth, box.waiting_senders) == (4, 3)
        await trio.sleep(30)
        assert len(journal.downs) == 3
        assert order == ["one", "two", "three"]
        assert journal.entries[-1] == "watcher: three"


async def test_watchers_that_left_are_forgotten(autojump_clock: MockClock) -> None:
    journal = Journal()
    watched, brief = probe("watched", Journal()), probe("brief", journal, restart=Restart.TEMPORARY)
    leaving = probe("leaving", journal)
    async with running(watched, brief) as system:
        await system.start_child("/", leaving)
        for watcher in (brief, leaving):
            await watch(watcher, watched)
        await system.stop_child("/leaving")
        await crash_now(brief.ref)
        await crash_now(watched.ref)
        await crash_now(watched.ref)
        assert await watched.ref.ask(Echo(), within=5) == "hello"
        await watch(watched, watched)
        await system.stop_child("/watched")
    assert journal.downs == []


async def test_a_freed_path_has_no_watchers(autojump_clock: MockClock) -> None:
    journal = Journal()
    watcher = probe("watcher", journal)
    async with running(watcher) as system:
        await system.start_child("/", first := probe("a", Journal()))
        await watch(watcher, first)
        await system.stop_child("/a")
        await system.start_child("/", second := probe("a", Journal()))
        await crash_now(second.ref)
    assert journal.downs == [Down("/a", 1, None)]


async def test_actors_that_come_and_go_leave_nothing_behind(autojump_clock: MockClock) -> None:
    def count() -> int:
        gc.collect()
        kinds = (ActorRef, Mailbox, Record, Reply, Probe)
        return sum(isinstance(each, kinds) for each in gc.get_objects())

    watched = probe("watched", Journal())
    async with running(watched) as system:
        counts = []
        for _ in range(3):
            counts.append(count())
            for number in range(10):
                brief = probe(f"brief{number}", Journal(), restart=Restart.TEMPORARY)
                await system.start_child("/", brief)
                await watch(brief, watched)
                assert await watched.ref.ask(Echo(), within=5) == "hello"
                brief.ref.try_tell(Do(boom))
                await wait_all_tasks_blocked()
            del brief
    assert counts[1] == counts[2]


async def test_the_end_of_the_tree_is_told_to_older_watchers(autojump_clock: MockClock) -> None:
    journal = Journal()
    watcher, watched = probe("watcher", journal), probe("watched", Journal())
    async with running(watcher, watched):
        await watch(watcher, watched)
    assert journal.downs == [Down("/watched", 1, None)]


async def test_only_an_actor_of_the_tree_can_be_watched(autojump_clock: MockClock) -> None:
    spec = probe("a", Journal())

    async def monitor(me: Probe) -> None:
        with pytest.raises(UnknownActor, match="no actor at '\\(not started\\)' to monitor"):
            me.monitor(probe("b", Journal()).ref)

    async with running(spec):
        assert await spec.ref.ask(Do(monitor), within=5) == "done"
