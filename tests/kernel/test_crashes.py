"""What a crash or an end does to messages that wait and to those who asked."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from pyoco_server.kernel import (
    Actor,
    ActorDown,
    Backoff,
    ChildSpec,
    KernelError,
    Reply,
    Request,
    Restart,
)

from .faults import Boom, Script, Step, crash, delay, hang, resist
from .probe import Do, Echo, Journal, Probe, boom, crash_now, probe, running


async def ask_and_note(
    spec: ChildSpec[Any], request: Request[Any], seen: list[tuple[str, float]]
) -> None:
    try:
        await spec.ref.ask(request, within=1000)
    except ActorDown as error:
        seen.append((str(error), trio.current_time()))


@pytest.mark.parametrize("clean_up", [0.0, 4.0])
async def test_asks_in_hand_waiting_and_kept_fail_at_once_on_a_crash(
    autojump_clock: MockClock, clean_up: float
) -> None:
    async def keep(me: Probe) -> None:
        me.kept.append(me.reply_to(kept))

    async def crash_later(_: Probe) -> None:
        await trio.sleep(10)
        raise Boom("in hand")

    kept = Do(keep, answer=None)
    seen: list[tuple[str, float]] = []
    spec = probe("a", Journal(), Script({Step.ON_STOP: delay(clean_up)}))
    async with running(spec), trio.open_nursery() as nursery:
        started = trio.current_time()
        for request in (kept, Do(crash_later), Echo("waiting")):
            nursery.start_soon(ask_and_note, spec, request, seen)
            await wait_all_tasks_blocked()
        await trio.sleep(10.001)
        assert sorted(text for text, _ in seen) == [
            "/a crashed: Boom: in hand",
            "/a ended before it answered",
            "/a ended: Boom: in hand",
        ]
        assert {at for _, at in seen} == {started + 10}


async def test_an_ask_in_hand_fails_at_once_when_a_task_crashes_the_actor(
    autojump_clock: MockClock,
) -> None:
    spec = probe("a", Journal())
    seen: list[tuple[str, float]] = []

    async def spawn_crash(me: Probe) -> None:
        async def crash_soon() -> None:
            await trio.sleep(1)
            raise Boom("task")

        me.spawn(crash_soon)
        await hang()

    async with running(spec):
        started = trio.current_time()
        await ask_and_note(spec, Do(spawn_crash), seen)
    assert seen == [("/a ended before it answered", started + 1)]


async def test_a_taken_reply_fails_when_its_handler_crashes(autojump_clock: MockClock) -> None:
    spec = probe("a", Journal())

    async def take_and_crash(me: Probe) -> None:
        me.reply_to(request)
        raise Boom("with a reply in hand")

    request = Do(take_and_crash, answer=None)
    async with running(spec):
        with pytest.raises(ActorDown, match="/a crashed: Boom: with a reply in hand"):
            await spec.ref.ask(request, within=5)


async def test_a_crash_after_the_answer_does_not_take_it_back(autojump_clock: MockClock) -> None:
    spec = probe("a", Journal())

    async def answer_and_crash(me: Probe) -> None:
        me.reply_to(request).send("answered")
        raise Boom

    request = Do(answer_and_crash, answer=None)
    async with running(spec):
        assert await spec.ref.ask(request, within=5) == "answered"


async def test_told_messages_survive_a_restart_in_order(autojump_clock: MockClock) -> None:
    journal = Journal()
    spec = probe("a", journal)
    async with running(spec):
        spec.ref.try_tell("before")
        spec.ref.try_tell(Do(boom))
        for number in range(5):
            spec.ref.try_tell(number)
        await trio.sleep(1)
    assert journal.entries == [
        "start a",
        "a: before",
        "stop a",
        "start a",
        *(f"a: {number}" for number in range(5)),
        "stop a",
    ]


async def test_senders_that_wait_for_room_survive_a_restart(autojump_clock: MockClock) -> None:
    journal = Journal()
    spec = probe("a", journal, mailbox_capacity=2)
    async with running(spec), trio.open_nursery() as nursery:
        spec.ref.try_tell(Do(boom))
        spec.ref.try_tell("one")
        nursery.start_soon(spec.ref.tell, "two")
        nursery.start_soon(spec.ref.tell, "three")
        await trio.sleep(1)
    assert journal.entries[:3] == ["start a", "stop a", "start a"]
    assert sorted(journal.entries[3:6]) == ["a: one", "a: three", "a: two"]


async def test_requests_that_fail_make_room_for_senders(autojump_clock: MockClock) -> None:
    journal = Journal()
    spec = probe("a", journal, Script({Step.ON_STOP: delay(4)}), mailbox_capacity=2)
    seen: list[tuple[str, float]] = []
    async with running(spec), trio.open_nursery() as nursery:
        nursery.start_soon(ask_and_note, spec, Do(boom), seen)
        await wait_all_tasks_blocked()  # crashed, cleaning up
        sent = trio.current_time()
        nursery.start_soon(ask_and_note, spec, Echo(), seen)
        nursery.start_soon(ask_and_note, spec, Echo(), seen)
        await wait_all_tasks_blocked()
        await spec.ref.tell("told")
        assert trio.current_time() == sent + 4
        await trio.sleep(1)
    assert len(seen) == 3
    assert "a: told" in journal.entries


async def test_an_ask_during_the_backoff_is_answered_by_the_next_life(
    autojump_clock: MockClock,
) -> None:
    spec = probe("a", Journal())
    async with running(spec, backoff=Backoff(initial=5, jitter=0)):
        await crash_now(spec.ref)
        assert await spec.ref.ask(Echo("patient"), within=60) == "patient"


async def test_asks_that_wait_fail_when_the_next_start_crashes(autojump_clock: MockClock) -> None:
    spec = probe("a", Journal(), Script({Step.CONSTRUCTOR: crash(Boom("no start"))}, lives={2}))
    seen: list[tuple[str, float]] = []
    async with running(spec, backoff=Backoff(initial=5, jitter=0)):
        await crash_now(spec.ref)
        await ask_and_note(spec, Echo(), seen)
    assert [text for text, _ in seen] == ["/a ended: Boom: no start"]


async def test_an_actor_that_ended_for_good_takes_nothing(autojump_clock: MockClock) -> None:
    spec = probe("a", Journal(), restart=Restart.TEMPORARY)
    async with running(spec):
        await crash_now(spec.ref)
        with pytest.raises(ActorDown, match="/a takes no more messages"):
            await spec.ref.tell("late")
        with pytest.raises(ActorDown):
            spec.ref.try_tell("late")
        with pytest.raises(ActorDown):
            await spec.ref.ask(Echo(), within=5)
    with pytest.raises(ActorDown):
        await spec.ref.tell("after the end")


async def test_senders_that_wait_for_room_learn_that_the_actor_ended_for_good(
    autojump_clock: MockClock,
) -> None:
    spec = probe("a", Journal(), mailbox_capacity=1, restart=Restart.TEMPORARY)
    outcomes: list[str] = []

    async def tell() -> None:
        with pytest.raises(ActorDown):
            await spec.ref.tell("never")
        outcomes.append("down")

    async def crash_later(_: Probe) -> None:
        await trio.sleep(5)
        raise Boom

    async with running(spec), trio.open_nursery() as nursery:
        await spec.ref.tell(Do(crash_later))
        await wait_all_tasks_blocked()
        await spec.ref.tell("left behind")
        nursery.start_soon(tell)
        nursery.start_soon(tell)
    assert outcomes == ["down", "down"]


async def test_messages_sent_during_the_drain_are_refused(autojump_clock: MockClock) -> None:
    spec = probe("a", Journal(), Script({Step.HANDLE: delay(2)}))
    refused: list[str] = []

    async def late() -> None:
        await trio.sleep(1)
        with pytest.raises(ActorDown, match="is stopping or was stopped"):
            await spec.ref.tell("late")
        refused.append("late")

    async with trio.open_nursery() as nursery, running(spec):
        spec.ref.try_tell("in hand")
        nursery.start_soon(late)
        await wait_all_tasks_blocked()
    assert refused == ["late"]


@pytest.mark.parametrize("how", [hang, resist(1)])
async def test_an_ask_in_hand_fails_when_the_shutdown_cancels_its_handler(
    autojump_clock: MockClock, how: Any
) -> None:
    spec = probe(
        "a", Journal(), Script({Step.HANDLE: how, Step.ON_STOP: delay(3)}), shutdown_seconds=0
    )
    seen: list[tuple[str, float]] = []
    async with trio.open_nursery() as nursery, running(spec):
        nursery.start_soon(ask_and_note, spec, Echo(), seen)
        nursery.start_soon(ask_and_note, spec, Echo(), seen)
        await wait_all_tasks_blocked()
        stopped = trio.current_time()
    if how is hang:
        assert sorted(text for text, _ in seen) == [
            "/a ended before it answered",
            "/a ended: stopped",
        ]
        assert {at for _, at in seen} == {stopped}  # not after the clean-up
    else:  # its handler came to its end in spite of the cancellation
        assert [text for text, _ in seen] == ["/a ended: stopped"]


async def test_outside_of_a_tree_an_actor_says_so(autojump_clock: MockClock) -> None:
    with pytest.raises(KernelError, match="Probe is used outside of an actor tree"):
        Probe("a", Journal(), Script()).stop()


async def test_an_actor_has_to_say_how_it_handles_messages(autojump_clock: MockClock) -> None:
    class Mute(Actor[str]):
        pass

    spec = ChildSpec("mute", Mute, restart=Restart.TEMPORARY)
    async with running(spec) as system:
        await spec.ref.tell("hello")
        await wait_all_tasks_blocked()
        node = system.tree().find("/mute")
        assert node is not None
        assert node.last_error == "NotImplementedError"


def test_a_reply_stands_alone() -> None:
    reply: Reply[int] = Reply()
    assert not reply.settled
    reply.send(1)
    assert reply.settled


def test_references_show_where_they_lead() -> None:
    assert repr(probe("a", Journal()).ref) == "<ActorRef (not started)>"
