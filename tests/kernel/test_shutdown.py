"""The end of a tree: its order, its limits, and cancellation from outside at every phase."""

from __future__ import annotations

import pytest
import trio
from structlog.testing import capture_logs
from trio.testing import MockClock, wait_all_tasks_blocked

from pyoco_server.kernel import (
    ActorDown,
    ActorSystem,
    Backoff,
    Intensity,
    State,
    Strategy,
    open_system,
)

from .faults import Script, Step, crash, delay, hang, resist
from .probe import Do, Echo, Journal, Probe, boom, crash_now, probe, running, tree


async def test_children_stop_in_reverse_order_also_nested(autojump_clock: MockClock) -> None:
    journal = Journal()
    nested = tree(probe("b", journal), probe("c", journal), name="nested")
    async with running(probe("a", journal), nested, probe("d", journal)):
        pass
    assert journal.entries == [
        *(f"start {name}" for name in "abcd"),
        *(f"stop {name}" for name in "dcba"),
    ]


async def test_what_waits_is_drained_then_cancelled_then_cleaned_up(
    autojump_clock: MockClock,
) -> None:
    journal = Journal()
    spec = probe(
        "a",
        journal,
        Script({Step.HANDLE: delay(2), Step.ON_STOP: hang}),
        shutdown_seconds=5,
        cleanup_seconds=3,
    )
    async with running(spec):
        for number in range(6):
            spec.ref.try_tell(number)
        await wait_all_tasks_blocked()
        began = trio.current_time()
    # Two handled in four seconds, the third cut off after five, three seconds of clean-up.
    assert journal.entries == ["start a", "a: 0", "a: 1", "a: 2", "stop a"]
    assert trio.current_time() == began + 8


async def test_a_younger_one_may_use_an_older_one_until_it_has_stopped(
    autojump_clock: MockClock,
) -> None:
    journal = Journal()
    older = probe("older", journal)

    async def say_goodbye() -> None:
        journal.note(await older.ref.ask(Echo("goodbye"), within=5))

    younger = probe("younger", journal, Script({Step.ON_STOP: say_goodbye}))
    async with running(older, younger):
        pass
    assert journal.entries[2:] == ["stop younger", "older: goodbye", "goodbye", "stop older"]


async def test_a_drained_actor_may_still_answer(autojump_clock: MockClock) -> None:
    spec = probe("a", Journal(), Script({Step.HANDLE: delay(1)}))
    answers: list[str] = []

    async def ask(text: str) -> None:
        answers.append(await spec.ref.ask(Echo(text), within=60))

    async with trio.open_nursery() as nursery, running(spec):
        for text in ("one", "two", "three"):
            nursery.start_soon(ask, text)
            await wait_all_tasks_blocked()
    assert answers == ["one", "two", "three"]


async def test_stop_during_the_drain_leaves_nothing_out(autojump_clock: MockClock) -> None:
    journal = Journal()
    spec = probe("a", journal)

    async def end(me: Probe) -> None:
        me.stop()

    async with running(spec):
        for message in (Do(end), "one", "two"):
            spec.ref.try_tell(message)
    assert journal.entries == ["start a", "a: one", "a: two", "stop a"]


async def test_senders_that_wait_for_room_are_refused_as_the_drain_begins(
    autojump_clock: MockClock,
) -> None:
    spec = probe("a", Journal(), Script({Step.HANDLE: delay(2)}), mailbox_capacity=1)
    refused: list[float] = []

    async def tell() -> None:
        with pytest.raises(ActorDown):
            await spec.ref.tell("too late")
        refused.append(trio.current_time())

    async with trio.open_nursery() as nursery, running(spec):
        for _ in range(2):
            await spec.ref.tell("drained")
            await wait_all_tasks_blocked()
        nursery.start_soon(tell)
        await wait_all_tasks_blocked()
        ended = trio.current_time()
    assert refused == [ended]


async def test_a_task_does_not_hold_up_the_end(autojump_clock: MockClock) -> None:
    spec = probe("a", Journal(), Script({Step.TASK: hang}), shutdown_seconds=100)
    async with running(spec):
        began = trio.current_time()
    assert trio.current_time() == began


async def test_a_deaf_handler_is_waited_for(autojump_clock: MockClock) -> None:
    journal = Journal()
    spec = probe("a", journal, Script({Step.HANDLE: resist(20)}), shutdown_seconds=5)
    async with running(spec):
        spec.ref.try_tell("deaf")
        await wait_all_tasks_blocked()
        began = trio.current_time()
    assert trio.current_time() == began + 20
    assert journal.entries == ["start a", "a: deaf", "stop a"]


async def test_messages_left_behind_are_dropped_in_the_open(
    autojump_clock: MockClock,
) -> None:
    spec = probe("a", Journal(), Script({Step.HANDLE: hang}), shutdown_seconds=1)
    with capture_logs() as told:
        async with running(spec):
            for number in range(4):
                spec.ref.try_tell(number)
            await wait_all_tasks_blocked()
    assert ("messages left unhandled", 3) in [(line["event"], line.get("count")) for line in told]


# Cancellation from outside


@pytest.mark.parametrize("after", [0, 1, 2.5, 4, 5.5, 6.5, 8, 9.5, 11, 14, 20])
@pytest.mark.parametrize("depth", [0, 2])
async def test_cancelled_at_any_time_the_tree_stops_in_order_and_counts_no_crash(
    autojump_clock: MockClock, after: float, depth: int
) -> None:
    """At 6 s all have started, at 9 s one crashes and cleans up, from 10 s it backs off, at 15 s back."""
    journal = Journal()
    slow = {Step.ON_START: delay(2), Step.ON_STOP: delay(1)}
    specs = [probe(name, journal, Script(slow), shutdown_seconds=2) for name in "abc"]
    children = list(specs)
    root = tree(*children, backoff=Backoff(initial=3, jitter=0), intensity=Intensity(restarts=1))
    for _ in range(depth):
        root = tree(root, name="nested")
    system: ActorSystem | None = None
    began = trio.current_time()
    with trio.move_on_after(after):
        async with open_system(root) as system:
            await trio.sleep(3)
            specs[1].ref.try_tell(Do(boom))
            await trio.sleep_forever()
    assert trio.current_time() - began <= after + 3 * 4
    journal.check()
    stops = [entry for entry in journal.entries if entry.startswith("stop")]
    running_then = [entry[-1] for entry in journal.entries if entry.startswith("start")]
    last_stops = stops[1:] if after > 9 else stops
    assert [stop[-1] for stop in last_stops] == sorted(
        (name for name in "abc" if f"stop {name}" in last_stops), reverse=True
    )
    assert len(running_then) <= 4
    if system is not None:
        for node in system.tree().walk():
            assert node.state is State.STOPPED
            crashed = node.path.endswith("/b") and after > 9
            assert (node.last_error == "Boom: boom") == crashed


async def test_cancelled_again_during_the_shutdown_it_ends_all_the_same(
    autojump_clock: MockClock,
) -> None:
    journal = Journal()
    spec = probe("a", journal, Script({Step.HANDLE: delay(3), Step.ON_STOP: delay(3)}))
    with trio.move_on_after(5):
        async with running(probe("first", journal), spec):
            spec.ref.try_tell("drained")
            await wait_all_tasks_blocked()
            began = trio.current_time()
    assert trio.current_time() == began + 6
    assert journal.entries == [
        "start first",
        "start a",
        "a: drained",
        "stop a",
        "stop first",
    ]


async def test_cancelled_before_it_began_nothing_is_started(autojump_clock: MockClock) -> None:
    journal = Journal()
    for _ in range(20):  # trio runs ready tasks in random order
        with trio.CancelScope() as scope:
            scope.cancel()
            async with running(probe("a", journal)):
                pytest.fail("entered")
    assert journal.entries == []


async def test_a_failing_body_stops_the_tree_in_order(autojump_clock: MockClock) -> None:
    journal = Journal()
    caught: list[str] = []
    try:
        async with running(probe("a", journal), probe("b", journal)):
            await crash(KeyError("body"))()
    except* KeyError as group:
        caught.extend(str(error) for error in group.exceptions)
    assert caught
    assert journal.entries == ["start a", "start b", "stop b", "stop a"]


async def test_the_shutdown_does_not_wait_for_a_backoff(autojump_clock: MockClock) -> None:
    journal = Journal()
    spec = probe("a", journal)
    async with running(spec, backoff=Backoff(initial=1000, maximum=1000, jitter=0)) as system:
        await crash_now(spec.ref)
        node = system.tree().find("/a")
        assert node is not None
        assert node.state is State.BACKING_OFF
        spec.ref.try_tell("left behind")
        began = trio.current_time()
    assert trio.current_time() == began
    assert journal.entries == ["start a", "stop a"]
    assert {node.state for node in system.tree().walk()} == {State.STOPPED}


async def test_the_shutdown_reaches_a_restart_that_is_under_way(autojump_clock: MockClock) -> None:
    journal = Journal()
    spec = probe("a", journal, Script({Step.ON_START: hang}, lives=range(2, 9)))
    async with running(probe("first", journal), spec):
        await crash_now(spec.ref)
        began = trio.current_time()
    assert trio.current_time() == began
    assert journal.entries[-2:] == ["stop a", "stop first"]


async def test_the_shutdown_finishes_a_stop_that_a_restart_began(autojump_clock: MockClock) -> None:
    """A group restart waits for a busy sibling when the tree ends: the sibling drains from then on."""
    journal = Journal()
    a = probe("a", journal)
    b = probe("b", journal, Script({Step.HANDLE: delay(4)}), shutdown_seconds=10)
    async with running(a, b, strategy=Strategy.ONE_FOR_ALL):
        b.ref.try_tell("in hand")
        b.ref.try_tell("waiting")
        await wait_all_tasks_blocked()
        await crash_now(a.ref, settle=1)
    assert journal.entries == ["start a", "start b", "b: in hand", "stop a", "b: waiting", "stop b"]
