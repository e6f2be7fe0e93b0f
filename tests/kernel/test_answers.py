"""Asking: answers, refusals, deadlines, and what a crash does to those who wait."""

from __future__ import annotations

import weakref

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from pyoco_server.kernel import (
    AskExpired,
    KernelError,
    NotAnswered,
    Refusal,
    Reply,
)

from .faults import Boom, Script, Step, delay
from .probe import Do, Echo, Journal, Probe, probe, running


class NotToday(Refusal):
    """A refusal with a subclass of its own."""


async def refuse(_: Probe) -> None:
    raise NotToday("come back tomorrow")


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


async def test_a_task_may_answer_with_what_it_comes_to(autojump_clock: MockClock) -> None:
    spec = probe("a", Journal())

    async def shout(text: str) -> str:
        await trio.sleep(10)
        return text.upper()

    async def answer_with_it(me: Probe) -> None:
        me.answer(request, shout, "late but here")

    request = Do(answer_with_it, answer=None)

    async with running(spec):
        assert await spec.ref.ask(request, within=60) == "LATE BUT HERE"


@pytest.mark.parametrize("error", [NotToday("no"), LookupError("gone")])
async def test_a_task_that_answers_may_refuse(error: Exception, autojump_clock: MockClock) -> None:
    spec = probe("a", Journal())

    async def fail() -> str:
        await trio.sleep(10)
        raise error

    async def refused(me: Probe) -> None:
        me.answer(request, fail, refusing=(Refusal, LookupError))

    request = Do(refused, answer=None)
    async with running(spec) as system:
        with pytest.raises(type(error), match=str(error)):
            await spec.ref.ask(request, within=60)
        node = system.tree().find("/a")
        assert node is not None
        assert node.incarnation == 1


async def test_what_was_handled_is_not_held_until_the_next_message(
    autojump_clock: MockClock,
) -> None:
    spec = probe("a", Journal())

    class Held(str):
        """Something that others wait to see go."""

        __slots__ = ("__weakref__",)

    class Asked(Echo):
        """A message of its own."""

    async with running(spec):
        asked, answer = Asked(Held("hi")), await spec.ref.ask(Echo(Held("answer")), within=5)
        gone: list[weakref.ref[str] | weakref.ref[Asked]] = [
            weakref.ref(asked),
            weakref.ref(answer),
        ]
        await spec.ref.tell(asked)
        del asked, answer
        await wait_all_tasks_blocked()
        assert all(ref() is None for ref in gone)


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


async def test_an_actor_can_see_that_nobody_waits_any_more(autojump_clock: MockClock) -> None:
    spec = probe("a", Journal())

    async def keep(me: Probe) -> None:
        me.kept.append(me.reply_to(expiring if not me.kept else cancelled))
        seen.extend(me.kept[len(seen) :])

    seen: list[Reply[str]] = []
    expiring, cancelled = Do(keep, answer=None), Do(keep, answer=None)
    async with running(spec):
        with pytest.raises(AskExpired):
            await spec.ref.ask(expiring, within=1)
        with trio.move_on_after(1):
            await spec.ref.ask(cancelled, within=60)
        assert [reply.settled for reply in seen] == [True, True]


async def test_an_ask_over_restarts_is_answered_by_the_next_incarnation(
    autojump_clock: MockClock,
) -> None:
    lives = 0

    async def crash_once(me: Probe) -> None:
        nonlocal lives
        lives += 1
        if lives == 1:
            raise Boom
        me.reply_to(asked).send("at last")

    asked = Do(crash_once, answer=None)
    spec = probe("a", Journal())
    async with running(spec):
        assert await spec.ref.ask_over_restarts(asked) == "at last"
    assert lives == 2
