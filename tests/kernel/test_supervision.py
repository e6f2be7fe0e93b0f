"""Strategies, kinds of restart, limits, backoff, and the way of a failure up the tree."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
import trio
import trio.lowlevel
from trio.testing import MockClock, wait_all_tasks_blocked

from pyoco_server.kernel import (
    ActorDown,
    ActorSystem,
    Backoff,
    Intensity,
    InvalidSpec,
    Node,
    Restart,
    RestartLimitExceeded,
    State,
    Strategy,
    SupervisorSpec,
    open_system,
)

from .faults import Boom, Script, Step, crash, delay
from .probe import (
    NO_WAIT,
    Do,
    Echo,
    Journal,
    Probe,
    boom,
    crash_now,
    failed_start,
    failing,
    find,
    leaves,
    probe,
    running,
    tree,
)


def node(system: ActorSystem, path: str) -> Node:
    found = system.tree().find(path)
    assert found is not None
    return found


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


# Limits


async def crash_times(spec: Any, times: int, *, every: float) -> None:
    for _ in range(times):
        await crash_now(spec.ref, settle=every)


async def test_restarts_beyond_the_window_end_the_supervisor(autojump_clock: MockClock) -> None:
    spec = probe("a", Journal())
    async with failing(spec, intensity=Intensity(restarts=3, seconds=10)) as caught:
        await crash_times(spec, 3, every=1)
        assert await spec.ref.ask(Echo(), within=5) == "hello"
        await crash_now(spec.ref, settle=1)
    limit = find(caught.group, RestartLimitExceeded)
    assert limit is not None
    assert limit.message == (
        "/ gave up: /a crashed; 4 restarts within 10 s (allowed: 3), 4 of it in a row"
    )
    assert [str(leaf) for leaf in leaves(limit)] == ["boom"] * 4


async def test_crashes_that_left_the_window_are_not_reported(autojump_clock: MockClock) -> None:
    spec = probe("a", Journal())
    async with failing(spec, intensity=Intensity(restarts=1, seconds=10)) as caught:
        await crash_times(spec, 2, every=20)
        await crash_times(spec, 2, every=1)
    assert len(list(leaves(caught.group))) == 2
    with pytest.raises(ActorDown):
        spec.ref.try_tell("after the end")


async def test_restarts_that_left_the_window_do_not_count(autojump_clock: MockClock) -> None:
    spec = probe("a", Journal())
    async with running(spec, intensity=Intensity(restarts=3, seconds=10)) as system:
        await crash_times(spec, 19, every=4)
        assert node(system, "/a").incarnation == 20


async def test_the_window_counts_all_children(autojump_clock: MockClock) -> None:
    a, b = probe("a", Journal()), probe("b", Journal())
    async with failing(a, b, intensity=Intensity(restarts=1, seconds=10)):
        await crash_now(a.ref)
        await crash_now(b.ref)


async def test_restarts_in_a_row_are_limited_too(autojump_clock: MockClock) -> None:
    """A backoff that grows never fills the window."""
    spec = probe("a", Journal(), Script({Step.ON_START: crash(Boom("still"))}, lives=range(2, 99)))
    backoff = Backoff(initial=10, maximum=10, jitter=0)
    async with failing(
        spec, intensity=Intensity(restarts=3, seconds=10, consecutive=5), backoff=backoff
    ) as caught:
        began = trio.current_time()
        await crash_now(spec.ref, settle=1000)
    assert trio.current_time() == pytest.approx(began + 50)
    limit = find(caught.group, RestartLimitExceeded)
    assert limit is not None
    assert "6 of it in a row" in limit.message


async def test_a_healthy_time_ends_the_row(autojump_clock: MockClock) -> None:
    spec = probe("a", Journal())
    async with running(
        spec,
        intensity=Intensity(restarts=100, consecutive=2),
        backoff=Backoff(initial=0, healthy_after=10),
    ) as system:
        await crash_times(spec, 10, every=11)
        assert node(system, "/a").incarnation == 11


async def test_clean_up_is_no_healthy_time(autojump_clock: MockClock) -> None:
    spec = probe("a", Journal(), Script({Step.ON_STOP: delay(5)}))
    async with failing(
        spec,
        intensity=Intensity(restarts=100, consecutive=2),
        backoff=Backoff(initial=0, healthy_after=4),
    ):
        await crash_times(spec, 3, every=6)


async def test_a_supervisor_that_was_healthy_starts_its_row_over(autojump_clock: MockClock) -> None:
    spec = probe("a", Journal())
    nested = tree(spec, name="nested", intensity=Intensity(restarts=0))
    async with running(
        nested,
        intensity=Intensity(restarts=100, consecutive=2),
        backoff=Backoff(initial=0, healthy_after=10),
    ) as system:
        await crash_times(spec, 10, every=12)
        assert lives(system) == {"/nested": 11, "/nested/a": 11}


# Backoff


async def test_backoff_grows_to_its_maximum(autojump_clock: MockClock) -> None:
    journal = Journal()
    async with running(
        spec := probe("a", journal), backoff=Backoff(initial=1, maximum=5, jitter=0)
    ) as system:
        delays = []
        for _ in range(5):
            await crash_now(spec.ref, settle=0)
            await wait_all_tasks_blocked()
            crashed = trio.current_time()
            assert node(system, "/a").state is State.BACKING_OFF
            await spec.ref.ask(Echo(), within=1000)
            delays.append(round(trio.current_time() - crashed, 6))
    assert delays == [1, 2, 4, 5, 5]


async def test_backoff_starts_over_after_a_healthy_time(autojump_clock: MockClock) -> None:
    async with running(
        spec := probe("a", Journal()), backoff=Backoff(initial=1, jitter=0, healthy_after=30)
    ):
        delays = []
        for healthy in (0, 0, 31, 0):
            await trio.sleep(healthy)
            await crash_now(spec.ref, settle=0)
            await wait_all_tasks_blocked()
            crashed = trio.current_time()
            await spec.ref.ask(Echo(), within=1000)
            delays.append(round(trio.current_time() - crashed, 6))
    assert delays == [1, 2, 1, 2]


async def test_a_seeded_random_repeats_the_jitter(autojump_clock: MockClock) -> None:
    async def measure() -> list[float]:
        spec = probe("a", Journal())
        delays = []
        root = tree(spec, backoff=Backoff(initial=1, jitter=0.5, maximum=100))
        async with open_system(root, random=Random(11)):
            for _ in range(5):
                await crash_now(spec.ref, settle=0)
                await wait_all_tasks_blocked()
                crashed = trio.current_time()
                await spec.ref.ask(Echo(), within=1000)
                delays.append(round(trio.current_time() - crashed, 6))
        return delays

    first = await measure()
    assert first == await measure()
    for number, measured in enumerate(first):
        assert 0.5 * 2**number <= measured <= 1.5 * 2**number
    assert first != [1, 2, 4, 8, 16]


# Up the tree


async def test_a_failure_goes_up_as_far_as_it_must(autojump_clock: MockClock) -> None:
    journal = Journal()
    spec = probe("a", journal)
    inner = tree(spec, probe("b", journal), name="inner", intensity=Intensity(restarts=1))
    outer = tree(inner, probe("c", journal), name="outer", intensity=Intensity(restarts=1))
    async with running(outer, probe("d", journal)) as system:
        journal.take()
        await crash_now(spec.ref)
        assert journal.take() == ["stop a", "start a"]
        await crash_now(spec.ref)  # inner gives up, outer restarts it
        assert journal.take() == ["stop a", "stop b", "start a", "start b"]
        assert lives(system) == {
            "/outer": 1,
            "/outer/inner": 2,
            "/outer/inner/a": 3,
            "/outer/inner/b": 2,
            "/outer/c": 1,
            "/d": 1,
        }
        await crash_times(spec, 2, every=0.01)  # inner again, and now outer
        assert node(system, "/outer").incarnation == 2
        assert node(system, "/outer/inner").incarnation == 3
        assert node(system, "/outer/inner/a").incarnation == 5
        assert node(system, "/d").incarnation == 1
        assert "gave up" in (node(system, "/outer").last_error or "")
        assert await spec.ref.ask(Echo(), within=5) == "hello"


@pytest.mark.parametrize("depth", [0, 1, 3])
async def test_a_failure_that_reaches_the_top_leaves_open_system(
    autojump_clock: MockClock, depth: int
) -> None:
    spec = probe("a", Journal())
    root: Any = spec
    for level in range(depth):
        root = tree(root, name=f"level{level}", intensity=Intensity(restarts=0))
    cancelled = False
    async with failing(root, intensity=Intensity(restarts=0)) as caught:
        spec.ref.try_tell(Do(boom))
        try:
            await trio.sleep_forever()
        except trio.Cancelled:
            cancelled = True
            raise
    assert cancelled
    assert caught.group.subgroup(RestartLimitExceeded) is not None
    assert {str(leaf) for leaf in leaves(caught.group)} == {"boom"}


@pytest.mark.parametrize("steps", range(12))
async def test_a_failure_at_the_top_while_the_body_ends(
    autojump_clock: MockClock, steps: int
) -> None:
    """Wherever the two meet, everything stops; a crash after the end is one as it stops."""
    journal = Journal()
    spec = probe("a", journal)
    escaped: RestartLimitExceeded | None = None
    try:
        async with running(probe("b", journal), spec, intensity=Intensity(restarts=0)):
            spec.ref.try_tell(Do(boom))
            for _ in range(steps):
                await trio.lowlevel.checkpoint()
    except ExceptionGroup as group:
        escaped = find(group, RestartLimitExceeded)
    assert escaped is not None or steps < 6
    assert journal.entries == ["start b", "start a", "stop a", "stop b"]


async def test_a_failure_at_the_top_beside_an_error_of_the_body(autojump_clock: MockClock) -> None:
    spec = probe("a", Journal())
    async with failing(spec, intensity=Intensity(restarts=0)) as caught:
        spec.ref.try_tell(Do(boom))
        try:
            await trio.sleep_forever()
        finally:
            raise KeyError("body")
    assert find(caught.group, RestartLimitExceeded) is not None
    assert find(caught.group, KeyError) is not None


async def test_a_failure_at_the_top_is_not_lost_in_a_cancelled_scope(
    autojump_clock: MockClock,
) -> None:
    spec = probe("a", Journal(), Script({Step.ON_STOP: delay(2)}))
    raised: ExceptionGroup[Exception] | None = None
    try:
        with trio.CancelScope() as scope:
            async with running(spec, intensity=Intensity(restarts=0)):
                spec.ref.try_tell(Do(boom))
                try:
                    await trio.sleep_forever()
                finally:
                    scope.cancel()
    except ExceptionGroup as group:
        raised = group
    assert raised is not None
    assert find(raised, RestartLimitExceeded) is not None


async def test_the_crashes_of_a_limit_can_be_caught_by_their_type(
    autojump_clock: MockClock,
) -> None:
    spec = probe("a", Journal())
    caught: list[ExceptionGroup[Boom]] = []
    try:
        async with running(spec, intensity=Intensity(restarts=0)):
            await crash_now(spec.ref)
    except* Boom as crashes:
        caught.append(crashes)
    assert find(caught[0], RestartLimitExceeded) is not None  # the split keeps the type


async def test_a_nested_supervisor_that_fails_to_start_is_a_failed_start(
    autojump_clock: MockClock,
) -> None:
    journal = Journal()
    bad = probe("bad", journal, Script({Step.ON_START: crash(Boom("no start"))}))
    nested = tree(probe("a", journal), bad, probe("never", journal), name="nested")
    group = await failed_start(probe("first", journal), nested)
    assert [str(leaf) for leaf in leaves(group)] == ["no start"]
    assert journal.entries == [
        "start first",
        "start a",
        "start bad",
        "stop bad",
        "stop a",
        "stop first",
    ]


async def test_a_nested_supervisor_that_fails_to_restart_is_tried_again(
    autojump_clock: MockClock,
) -> None:
    journal = Journal()
    b = probe("b", journal, Script({Step.ON_START: crash(Boom("not yet"))}, lives={2, 3}))
    a = probe("a", journal)
    nested = tree(a, b, name="nested", intensity=Intensity(restarts=0))
    async with running(nested) as system:
        await crash_now(a.ref)
        assert lives(system) == {"/nested": 4, "/nested/a": 4, "/nested/b": 4}
        assert await b.ref.ask(Echo(), within=5) == "hello"
    journal.check()


async def test_mailboxes_survive_the_restart_of_their_supervisor(autojump_clock: MockClock) -> None:
    journal = Journal()
    a, b = probe("a", journal), probe("b", journal, Script({Step.HANDLE: delay(1)}))
    nested = tree(a, b, name="nested", intensity=Intensity(restarts=0))
    async with running(nested, backoff=Backoff(initial=5, jitter=0)):
        for number in range(3):
            await b.ref.tell(number)
        await wait_all_tasks_blocked()
        await crash_now(a.ref)
        await trio.sleep(2)
        await b.ref.tell("while nobody is there")
        await trio.sleep(30)
    handled = [entry for entry in journal.entries if entry.startswith("b:")]
    assert handled == ["b: 0", "b: 1", "b: 2", "b: while nobody is there"]
    with pytest.raises(ActorDown):
        b.ref.try_tell("after the end")


async def test_a_temporary_supervisor_that_gives_up_closes_what_is_below(
    autojump_clock: MockClock,
) -> None:
    a, b = probe("a", Journal()), probe("b", Journal())
    inner = tree(b, name="inner")
    nested = tree(
        a, inner, name="nested", intensity=Intensity(restarts=0), restart=Restart.TEMPORARY
    )
    async with running(nested, probe("c", Journal())) as system:
        await crash_now(a.ref)
        for spec in (a, b):
            with pytest.raises(ActorDown):
                spec.ref.try_tell("late")
        assert node(system, "/nested").state is State.STOPPED
        assert node(system, "/nested/inner/b").state is State.STOPPED
        assert node(system, "/c").state is State.IDLE


async def test_limits_start_over_when_a_supervisor_is_restarted(autojump_clock: MockClock) -> None:
    spec = probe("a", Journal())
    nested = tree(spec, name="nested", intensity=Intensity(restarts=2, seconds=1e6, consecutive=2))
    async with running(nested) as system:
        await crash_times(spec, 3, every=0.01)
        assert node(system, "/nested").incarnation == 2
        await crash_times(spec, 2, every=0.01)
        assert node(system, "/nested").incarnation == 2
        await crash_now(spec.ref)
        assert node(system, "/nested").incarnation == 3


# Specs


def test_ids_are_checked() -> None:
    with pytest.raises(InvalidSpec, match="id 'a/b': takes letters"):
        probe("a/b", Journal())
    with pytest.raises(InvalidSpec, match="id '': takes letters"):
        SupervisorSpec("", [])
    with pytest.raises(InvalidSpec, match="'root' has two children with the id 'a'"):
        tree(probe("a", Journal()), probe("a", Journal()))


@pytest.mark.parametrize("field", ["shutdown_seconds", "cleanup_seconds", "start_within"])
@pytest.mark.parametrize("value", [-1.0, float("nan")])
def test_seconds_are_checked(field: str, value: float) -> None:
    options: dict[str, Any] = {field: value}
    with pytest.raises(InvalidSpec, match=f"{field} .*: takes seconds, zero or more"):
        probe("a", Journal(), **options)


def test_only_a_start_may_take_for_ever() -> None:
    probe("a", Journal(), start_within=float("inf"))
    with pytest.raises(InvalidSpec, match="shutdown_seconds inf"):
        probe("a", Journal(), shutdown_seconds=float("inf"))


def test_capacity_is_checked() -> None:
    with pytest.raises(InvalidSpec, match="mailbox_capacity 0: takes 1 or more"):
        probe("a", Journal(), mailbox_capacity=0)


async def test_a_tree_without_actors_stands_and_ends(autojump_clock: MockClock) -> None:
    async with running(tree(name="empty"), backoff=NO_WAIT) as system:
        assert node(system, "/empty").state is State.SUPERVISING
    assert node(system, "/empty").state is State.STOPPED
    assert system.tree().state is State.STOPPED
