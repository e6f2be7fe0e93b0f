"""Who stops and starts when a child ends: strategies, kinds of restart."""

from __future__ import annotations

import pytest
import trio
import trio.lowlevel
from trio.testing import MockClock, wait_all_tasks_blocked

from pyoco_server.kernel import (
    ActorDown,
    ActorSystem,
    Backoff,
    Intensity,
    Restart,
    State,
    Strategy,
)

from .faults import Boom, Script, Step, crash, delay
from .probe import (
    Do,
    Echo,
    Journal,
    Probe,
    boom,
    crash_now,
    failing,
    leaves,
    node,
    probe,
    running,
)


def lives(system: ActorSystem) -> dict[str, int]:
    return {each.path: each.incarnation for each in system.tree().walk() if each.path != "/"}


# Strategies


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [
        (Strategy.ONE_FOR_ONE, ["stop b", "start b"]),
        (
            Strategy.REST_FOR_ONE,
            ["stop b", "stop d", "stop c", "start b", "start c", "start d"],
        ),
        (
            Strategy.ONE_FOR_ALL,
            ["stop b", "stop d", "stop c", "stop a", "start a", "start b", "start c", "start d"],
        ),
    ],
)
async def test_a_strategy_says_who_stops_and_starts_and_in_which_order(
    autojump_clock: MockClock, strategy: Strategy, expected: list[str]
) -> None:
    journal = Journal()
    specs = {name: probe(name, journal) for name in "abcd"}
    async with running(*specs.values(), strategy=strategy) as system:
        assert journal.take() == ["start a", "start b", "start c", "start d"]
        await crash_now(specs["b"].ref)
        assert journal.take() == expected
        assert node(system, "/").kind == strategy.value
        assert lives(system) == {
            f"/{name}": 2 if f"start {name}" in expected else 1 for name in specs
        }
    assert journal.take() == ["stop d", "stop c", "stop b", "stop a"]


@pytest.mark.parametrize("strategy", Strategy)
async def test_what_waits_for_a_sibling_stays_while_it_is_restarted_along(
    autojump_clock: MockClock, strategy: Strategy
) -> None:
    journal = Journal()
    specs = [probe(name, journal) for name in "abc"]
    async with running(*specs, strategy=strategy, backoff=Backoff(initial=5, jitter=0)):
        await crash_now(specs[0].ref)
        for spec in specs:
            await spec.ref.tell("kept")
        await trio.sleep(10)
        for spec in specs:
            assert await spec.ref.ask(Echo(), within=5) == "hello"
    for name in "abc":
        assert journal.count(f"{name}: kept") == 1


@pytest.mark.parametrize("step", [Step.CONSTRUCTOR, Step.ON_START])
@pytest.mark.parametrize("failing", ["a", "b", "c"])
@pytest.mark.parametrize("strategy", [Strategy.REST_FOR_ONE, Strategy.ONE_FOR_ALL])
async def test_a_member_that_fails_to_restart_leaves_none_running_twice_or_forgotten(
    autojump_clock: MockClock, strategy: Strategy, failing: str, step: Step
) -> None:
    journal = Journal()
    scripts = {
        name: Script({step: crash(Boom("not yet"))} if name == failing else {}, lives={2, 3})
        for name in "abc"
    }
    specs = [probe(name, journal, script) for name, script in scripts.items()]
    async with running(*specs, strategy=strategy) as system:
        await crash_now(specs[0].ref, settle=1)
        running_now = {
            name: journal.count(f"start {name}") - journal.count(f"stop {name}") for name in "abc"
        }
        assert running_now == {"a": 1, "b": 1, "c": 1}
        for spec in specs:
            assert await spec.ref.ask(Echo(), within=5) == "hello"
        assert node(system, f"/{failing}").incarnation == 4
    journal.check()


async def test_rest_for_one_keeps_the_older_one_that_came_back_when_a_younger_one_fails(
    autojump_clock: MockClock,
) -> None:
    journal = Journal()
    specs = [
        probe("a", journal),
        probe("b", journal, Script({Step.ON_START: crash(Boom("not yet"))}, lives={2})),
        probe("c", journal),
    ]
    async with running(*specs, strategy=Strategy.REST_FOR_ONE) as system:
        await crash_now(specs[0].ref, settle=1)
        assert lives(system) == {"/a": 2, "/b": 3, "/c": 2}


async def test_two_that_crash_at_once_both_come_back(autojump_clock: MockClock) -> None:
    for strategy in Strategy:
        journal = Journal()
        specs = [probe(name, journal, Script({Step.ON_STOP: delay(1)})) for name in "abc"]
        async with running(*specs, strategy=strategy):
            specs[2].ref.try_tell(Do(boom))
            specs[0].ref.try_tell(Do(boom))
            await trio.sleep(20)
            for spec in specs:
                assert await spec.ref.ask(Echo(), within=5) == "hello"
        journal.check()


async def test_a_sibling_that_ended_normally_stays_ended_when_the_group_restarts(
    autojump_clock: MockClock,
) -> None:
    journal = Journal()

    async def end(me: Probe) -> None:
        me.stop()

    a, b = probe("a", journal), probe("b", journal, restart=Restart.TRANSIENT)
    async with running(a, b, strategy=Strategy.ONE_FOR_ALL) as system:
        await b.ref.tell(Do(end))
        await trio.sleep(1)
        await crash_now(a.ref, settle=1)
        assert lives(system) == {"/a": 2, "/b": 1}
        assert node(system, "/b").state is State.STOPPED


async def test_a_sibling_that_ends_normally_while_its_group_waits_stays_ended(
    autojump_clock: MockClock,
) -> None:
    """Its end is seen only after the plan that covers it was made."""
    journal = Journal()

    async def end_later(me: Probe) -> None:
        me.stop()
        await trio.sleep(2)

    a = probe("a", journal)
    b = probe("b", journal, restart=Restart.TRANSIENT)
    c = probe("c", journal, Script({Step.ON_STOP: delay(4)}))
    async with running(
        a, b, c, strategy=Strategy.ONE_FOR_ALL, backoff=Backoff(initial=1, jitter=0)
    ) as system:
        await b.ref.tell(Do(end_later))
        await wait_all_tasks_blocked()
        await crash_now(a.ref, settle=0)  # c takes 4 s to stop, b ends by itself meanwhile
        await trio.sleep(20)
        assert lives(system) == {"/a": 2, "/b": 1, "/c": 2}
        with pytest.raises(ActorDown):
            b.ref.try_tell("late")


async def test_a_temporary_sibling_is_stopped_for_good_with_its_group(
    autojump_clock: MockClock,
) -> None:
    journal = Journal()
    a, b = probe("a", journal), probe("b", journal, restart=Restart.TEMPORARY)
    async with running(a, b, strategy=Strategy.ONE_FOR_ALL) as system:
        a.ref.try_tell(Do(boom))
        b.ref.try_tell("drained")
        await trio.sleep(1)
        assert lives(system) == {"/a": 2, "/b": 1}
        assert journal.count("b: drained") == 1
        with pytest.raises(ActorDown):
            b.ref.try_tell("late")


async def test_stopping_together_takes_as_long_as_the_slowest(autojump_clock: MockClock) -> None:
    journal = Journal()
    slow = {Step.ON_STOP: delay(3)}
    specs = [probe(name, journal, Script(slow)) for name in "abc"]
    async with running(*specs, stop_together=True):
        began = trio.current_time()
    assert trio.current_time() == began + 3
    journal.take()
    specs = [probe(name, journal, Script(slow)) for name in "abc"]
    async with running(*specs):
        began = trio.current_time()
    assert trio.current_time() == began + 9
    assert journal.take()[3:] == ["stop c", "stop b", "stop a"]


# Kinds of restart


@pytest.mark.parametrize(
    ("restart", "how", "again"),
    [
        (Restart.PERMANENT, "crash", True),
        (Restart.PERMANENT, "end", True),
        (Restart.TRANSIENT, "crash", True),
        (Restart.TRANSIENT, "end", False),
        (Restart.TEMPORARY, "crash", False),
        (Restart.TEMPORARY, "end", False),
    ],
)
async def test_the_kind_of_restart_says_who_comes_back(
    autojump_clock: MockClock, restart: Restart, how: str, again: bool
) -> None:
    async def end(me: Probe) -> None:
        me.stop()

    spec = probe("a", Journal(), restart=restart)
    async with running(spec) as system:
        await spec.ref.tell(Do(boom if how == "crash" else end))
        await trio.sleep(1)
        assert node(system, "/a").incarnation == (2 if again else 1)
        assert node(system, "/a").state is (State.IDLE if again else State.STOPPED)
        assert (node(system, "/a").last_error is None) == (how == "end")


async def test_a_permanent_actor_that_keeps_ending_is_a_failure(autojump_clock: MockClock) -> None:
    async def end(me: Probe) -> None:
        me.stop()

    spec = probe("a", Journal())
    async with failing(spec, intensity=Intensity(restarts=0)) as caught:
        await spec.ref.tell(Do(end))
        await trio.sleep(10)
    assert [str(leaf) for leaf in leaves(caught.group)] == [
        "/a ended by itself, although it is permanent"
    ]
