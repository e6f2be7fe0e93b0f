"""Telling: order, capacity, back-pressure, and the guards against waiting for oneself."""

from __future__ import annotations

import math

import pytest
import trio
from trio.testing import MockClock, assert_checkpoints, wait_all_tasks_blocked

from pyoco_server.kernel import (
    Actor,
    ChildSpec,
    KernelError,
    MailboxFull,
    Restart,
)

from .faults import Boom, Script, Step, delay
from .probe import Do, Echo, Journal, Probe, probe, running


async def test_messages_are_handled_in_the_order_they_were_told(autojump_clock: MockClock) -> None:
    journal = Journal()
    spec = probe("a", journal, mailbox_capacity=3)
    async with running(spec):
        for number in range(20):
            await spec.ref.tell(number)
    assert journal.entries == ["start a", *(f"a: {number}" for number in range(20)), "stop a"]


async def test_messages_told_before_the_start_wait_for_it(autojump_clock: MockClock) -> None:
    journal = Journal()
    spec = probe("a", journal)
    spec.ref.try_tell("early")
    async with running(spec):
        pass
    assert journal.entries == ["start a", "a: early", "stop a"]


async def test_tell_waits_while_the_mailbox_is_full(autojump_clock: MockClock) -> None:
    journal = Journal()
    spec = probe("a", journal, Script({Step.HANDLE: delay(10)}), mailbox_capacity=1)
    async with running(spec) as system, trio.open_nursery() as nursery:
        started = trio.current_time()
        for text in ("one", "two"):
            await spec.ref.tell(text)
            await wait_all_tasks_blocked()
        assert trio.current_time() == started
        nursery.start_soon(spec.ref.tell, "three")
        await wait_all_tasks_blocked()
        node = system.tree().find("/a")
        assert node is not None
        assert node.mailbox is not None
        assert (node.mailbox.depth, node.mailbox.capacity, node.mailbox.waiting_senders) == (
            1,
            1,
            1,
        )
        await spec.ref.tell("four")
        assert trio.current_time() == started + 20


async def test_a_cancelled_tell_was_not_sent(autojump_clock: MockClock) -> None:
    journal = Journal()
    spec = probe("a", journal, Script({Step.HANDLE: delay(10)}), mailbox_capacity=1)
    async with running(spec):
        await spec.ref.tell("one")
        await wait_all_tasks_blocked()
        await spec.ref.tell("two")
        with trio.move_on_after(1) as scope:
            await spec.ref.tell("never")
        assert scope.cancelled_caught
    assert "a: never" not in journal.entries


async def test_many_senders_get_through_a_small_mailbox(autojump_clock: MockClock) -> None:
    journal = Journal()
    spec = probe("a", journal, mailbox_capacity=1)

    async def send(sender: int) -> None:
        for number in range(5):
            await spec.ref.tell((sender, number))

    async with running(spec), trio.open_nursery() as nursery:
        for sender in range(10):
            nursery.start_soon(send, sender)
    for sender in range(10):
        own = [entry for entry in journal.entries if entry.startswith(f"a: ({sender},")]
        assert own == [f"a: ({sender}, {number})" for number in range(5)]


async def test_try_tell_never_waits(autojump_clock: MockClock) -> None:
    journal = Journal()
    spec = probe("a", journal, mailbox_capacity=2)
    async with running(spec):
        spec.ref.try_tell("one")
        spec.ref.try_tell("two")
        with pytest.raises(MailboxFull, match="/a has 2 messages waiting"):
            spec.ref.try_tell("three")
    assert journal.entries == ["start a", "a: one", "a: two", "stop a"]


async def test_an_actor_that_would_wait_for_its_own_mailbox_is_told_so(
    autojump_clock: MockClock,
) -> None:
    journal = Journal()
    spec = probe("a", journal, mailbox_capacity=1)
    caught: list[str] = []

    async def tell_itself_twice(me: Probe) -> None:
        await me.me.tell("again")
        with pytest.raises(MailboxFull, match="its own mailbox") as info:
            await me.me.tell("and again")
        caught.append(str(info.value))

    async with running(spec):
        await spec.ref.ask(Do(tell_itself_twice), within=5)
    assert caught
    assert journal.count("a: again") == 1


async def test_the_guard_holds_in_on_start_too(autojump_clock: MockClock) -> None:
    journal = Journal()

    class Eager(Actor[object]):
        async def on_start(self) -> None:
            await self.me.tell("one")
            with pytest.raises(MailboxFull):
                await self.me.tell("two")
            journal.note("guarded")

        async def handle(self, message: object) -> None:
            journal.note(str(message))

    async with running(ChildSpec("eager", Eager, mailbox_capacity=1)):
        pass
    assert journal.entries == ["guarded", "one"]


async def test_the_guard_holds_in_on_stop_too(autojump_clock: MockClock) -> None:
    journal = Journal()

    class Late(Actor[object]):
        async def handle(self, message: object) -> None:
            raise Boom

        async def on_stop(self) -> None:
            await self.me.tell("to the next life")
            with pytest.raises(MailboxFull):
                await self.me.tell("one too many")
            journal.note("guarded")

    spec = ChildSpec("late", Late, restart=Restart.TEMPORARY, mailbox_capacity=2)
    async with running(spec):
        spec.ref.try_tell("crash")
        spec.ref.try_tell("waits")
        await trio.sleep(1)
    assert journal.entries == ["guarded"]


async def test_tell_and_ask_are_checkpoints(autojump_clock: MockClock) -> None:
    spec = probe("a", Journal())
    async with running(spec):
        with assert_checkpoints():
            await spec.ref.tell("hello")
        with assert_checkpoints():
            await spec.ref.ask(Echo(), within=5)


async def test_an_actor_that_asks_itself_is_told_so(autojump_clock: MockClock) -> None:
    spec = probe("a", Journal())

    async def ask_itself(me: Probe) -> None:
        with pytest.raises(KernelError, match="/a asks itself Echo"):
            await me.me.ask(Echo(), within=math.inf)

    async with running(spec):
        assert await spec.ref.ask(Do(ask_itself), within=5) == "done"


async def test_its_tasks_may_wait_for_an_actor(autojump_clock: MockClock) -> None:
    journal = Journal()
    spec = probe("a", journal, mailbox_capacity=1)

    async def feed(me: Probe) -> None:
        for number in range(5):
            await me.me.tell(number)
        journal.note(await me.me.ask(Echo("asked"), within=5))

    async def spawn_feed(me: Probe) -> None:
        me.spawn(feed, me)

    async with running(spec):
        await spec.ref.ask(Do(spawn_feed), within=5)
        await trio.sleep(1)
    assert journal.entries == [
        "start a",
        *(f"a: {n}" for n in range(5)),
        "a: asked",
        "asked",
        "stop a",
    ]
