"""The way of a failure up the tree, and out of it."""

from __future__ import annotations

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
    Restart,
    RestartLimitExceeded,
    State,
)

from .faults import Boom, Script, Step, crash, delay
from .probe import (
    Do,
    Echo,
    Journal,
    boom,
    crash_now,
    crash_times,
    failed_start,
    failing,
    find,
    leaves,
    node,
    probe,
    running,
    tree,
)


def lives(system: ActorSystem) -> dict[str, int]:
    return {each.path: each.incarnation for each in system.tree().walk() if each.path != "/"}


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
