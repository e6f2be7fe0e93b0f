"""Watchers, and what they hear of the ends of others."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from pyoco_server.kernel import (
    ChildSpec,
    Down,
    UnknownActor,
)

from .faults import Boom, Script, Step, crash, delay
from .probe import Do, Journal, Probe, crash_now, node, probe, running, tree


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
