"""How often and how soon: restart intensity and backoff."""

from __future__ import annotations

from random import Random

import pytest
import trio
import trio.lowlevel
from trio.testing import MockClock, wait_all_tasks_blocked

from pyoco_server.kernel import (
    ActorDown,
    ActorSystem,
    Backoff,
    Intensity,
    RestartLimitExceeded,
    State,
    open_system,
)

from .faults import Boom, Script, Step, crash, delay
from .probe import (
    Echo,
    Journal,
    crash_now,
    crash_times,
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


# Limits


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
