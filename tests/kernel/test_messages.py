"""Telling and asking: order, back-pressure, answers, refusals, deadlines, and what a crash does to them."""

from __future__ import annotations

import math
from typing import Any

import pytest
import trio
from trio.testing import MockClock, assert_checkpoints, wait_all_tasks_blocked

from pyoco_server.kernel import (
    Actor,
    ActorDown,
    AskExpired,
    Backoff,
    ChildSpec,
    KernelError,
    MailboxFull,
    NotAnswered,
    Refusal,
    Reply,
    Request,
    Restart,
)

from .faults import Boom, Script, Step, crash, delay, hang, resist
from .probe import Do, Echo, Journal, Probe, boom, crash_now, probe, running


class NotToday(Refusal):
    """A refusal with a subclass of its own."""


async def refuse(_: Probe) -> None:
    raise NotToday("come back tomorrow")


# Order and capacity


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


# Answers


async def test_ask_returns_the_answer(autojump_clock: MockClock) -> None:
    spec = probe("a", Journal())
    async with running(spec):
        assert await spec.ref.ask(Echo("hi"), within=5) == "hi"


async def test_a_request_may_be_told_and_its_answer_goes_nowhere(autojump_clock: MockClock) -> None:
    journal = Journal()
    spec = probe("a", journal)
    async with running(spec):
        await spec.ref.tell(Echo("hi"))
    assert journal.entries == ["start a", "a: hi", "stop a"]


async def test_a_reply_may_be_given_later_from_a_task(autojump_clock: MockClock) -> None:
    spec = probe("a", Journal())

    async def answer_later(me: Probe) -> None:
        reply = me.reply_to(later)
        me.kept.append(reply)

        async def answer() -> None:
            await trio.sleep(10)
            reply.send("late but here")

        me.spawn(answer)

    later = Do(answer_later, answer=None)
    async with running(spec):
        assert await spec.ref.ask(later, within=60) == "late but here"


async def test_other_messages_are_handled_while_a_reply_is_kept(autojump_clock: MockClock) -> None:
    spec = probe("a", Journal())

    async def keep(me: Probe) -> None:
        me.kept.append(me.reply_to(kept))

    async def give(me: Probe) -> None:
        me.kept.pop().send("at last")

    kept = Do(keep, answer=None)
    answers: list[str] = []

    async def ask() -> None:
        answers.append(await spec.ref.ask(kept, within=60))

    async with running(spec), trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        await wait_all_tasks_blocked()
        assert await spec.ref.ask(Echo("between"), within=5) == "between"
        await spec.ref.tell(Do(give))
    assert answers == ["at last"]


async def test_the_first_outcome_of_a_reply_counts(autojump_clock: MockClock) -> None:
    spec = probe("a", Journal())

    async def answer_twice(me: Probe) -> None:
        reply = me.reply_to(twice)
        assert me.reply_to(twice) is reply
        reply.send("first")
        reply.send("second")
        reply.fail(Boom("third"))
        assert me.reply_to(twice).settled

    twice = Do(answer_twice, answer=None)
    async with running(spec):
        assert await spec.ref.ask(twice, within=5) == "first"


async def test_a_reply_may_fail_with_a_refusal(autojump_clock: MockClock) -> None:
    spec = probe("a", Journal())

    async def fail(me: Probe) -> None:
        me.reply_to(request).fail(NotToday("later"))

    request = Do(fail, answer=None)
    async with running(spec) as system:
        with pytest.raises(NotToday, match="later"):
            await spec.ref.ask(request, within=5)
        node = system.tree().find("/a")
        assert node is not None
        assert node.incarnation == 1


async def test_only_the_request_in_hand_can_be_answered(autojump_clock: MockClock) -> None:
    spec = probe("a", Journal())

    async def answer_another(me: Probe) -> None:
        with pytest.raises(KernelError, match="/a does not handle Echo right now"):
            me.reply_to(Echo())

    async with running(spec):
        assert await spec.ref.ask(Do(answer_another), within=5) == "done"


async def test_a_request_without_answer_is_a_mistake_of_the_actor(
    autojump_clock: MockClock,
) -> None:
    spec = probe("a", Journal())

    async def nothing(_: Probe) -> None:
        pass

    async with running(spec) as system:
        with pytest.raises(NotAnswered, match="/a handled Do without an answer"):
            await spec.ref.ask(Do(nothing, answer=None), within=5)
        assert await spec.ref.ask(Echo(), within=5) == "hello"
        node = system.tree().find("/a")
        assert node is not None
        assert node.incarnation == 1


# Refusals


async def test_a_refusal_goes_to_the_asker_and_the_actor_lives_on(
    autojump_clock: MockClock,
) -> None:
    spec = probe("a", Journal())
    async with running(spec) as system:
        with pytest.raises(NotToday, match="come back tomorrow"):
            await spec.ref.ask(Do(refuse), within=5)
        await spec.ref.tell(Do(refuse))
        assert await spec.ref.ask(Echo(), within=5) == "hello"
        node = system.tree().find("/a")
        assert node is not None
        assert node.work is not None
        assert (node.incarnation, node.work.messages, node.work.refusals) == (1, 3, 2)


async def test_a_refusal_counts_although_the_reply_was_taken(autojump_clock: MockClock) -> None:
    spec = probe("a", Journal())

    async def take_and_refuse(me: Probe) -> None:
        me.reply_to(request)
        raise NotToday

    request = Do(take_and_refuse, answer=None)
    async with running(spec):
        with pytest.raises(NotToday):
            await spec.ref.ask(request, within=5)


# Deadlines


async def test_an_ask_ends_at_its_deadline_and_the_late_reply_is_harmless(
    autojump_clock: MockClock,
) -> None:
    journal = Journal()
    spec = probe("a", journal, Script({Step.HANDLE: delay(10)}))
    async with running(spec) as system:
        started = trio.current_time()
        with pytest.raises(AskExpired, match="/a did not answer Echo within 3 s"):
            await spec.ref.ask(Echo(), within=3)
        assert trio.current_time() == started + 3
        assert await spec.ref.ask(Echo("next"), within=60) == "next"
        node = system.tree().find("/a")
        assert node is not None
        assert node.incarnation == 1


async def test_the_deadline_covers_the_wait_for_room(autojump_clock: MockClock) -> None:
    journal = Journal()
    spec = probe("a", journal, Script({Step.HANDLE: delay(10)}), mailbox_capacity=1)
    async with running(spec):
        await spec.ref.tell("one")
        await wait_all_tasks_blocked()
        await spec.ref.tell("two")
        with pytest.raises(AskExpired):
            await spec.ref.ask(Echo("never sent"), within=3)
    assert "a: never sent" not in journal.entries


async def test_kernel_deadlines_are_no_trio_deadlines(autojump_clock: MockClock) -> None:
    assert not issubclass(AskExpired, trio.TooSlowError)


async def test_a_cancelled_ask_leaves_the_actor_alone(autojump_clock: MockClock) -> None:
    spec = probe("a", Journal(), Script({Step.HANDLE: delay(5)}))
    async with running(spec):
        with trio.move_on_after(1) as scope:
            await spec.ref.ask(Echo(), within=60)
        assert scope.cancelled_caught
        assert await spec.ref.ask(Echo("alive"), within=60) == "alive"


# Crashes


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
