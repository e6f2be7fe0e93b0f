"""Recorded messages, and their replay into one actor."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

import msgspec
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from pyoco_server.crash_reports import MessageLog, NotReplayable, Recorder, replay
from pyoco_server.crash_reports.message_text import from_value, to_value
from pyoco_server.kernel import (
    Actor,
    Backoff,
    ChildSpec,
    Refusal,
    Request,
    SupervisorSpec,
    open_system,
)


class Colour(Enum):
    RED = "red"


@dataclass(frozen=True, slots=True)
class Add(Request[int]):
    amount: int
    colour: Colour = Colour.RED
    parts: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Later:
    seconds: float


class Enough(Refusal):
    pass


@dataclass(frozen=True, slots=True)
class LogIn:
    api_key: str


class Counter(Actor[Any]):
    """Refuses to go below zero, breaks at the third one after another, and by what it does later."""

    def __init__(self) -> None:
        self._sum = 0
        self._count = 0

    async def handle(self, message: Any) -> None:
        match message:
            case Add(amount):
                self._count += 1
                if self._sum + amount < 0:
                    raise Enough(f"{self._sum} is all there is")
                self._sum += amount
                if self._count == 3:
                    raise ZeroDivisionError("the third")
                self.reply_to(message).send(self._sum)
            case Later(seconds):
                self.spawn(self._break, seconds)
            case _:
                raise TypeError(message)

    async def _break(self, seconds: float) -> None:
        await trio.sleep(seconds)
        raise LookupError(f"after {seconds:g} s")


async def recorded(*messages: tuple[float, Any], start: Any = Counter) -> list[MessageLog]:
    deaths: list[MessageLog] = []
    spec: ChildSpec[Any] = ChildSpec("counter", start)
    tree = SupervisorSpec("root", [SupervisorSpec("part", [spec], backoff=Backoff())])
    async with open_system(tree) as system:
        with system.tap(Recorder(deaths.append)):
            await system.restart("/part/counter")  # so that the recording begins with its life
            for pause, message in messages:
                await trio.sleep(pause)
                await spec.ref.tell(message)
            await trio.sleep(1)
    return deaths


async def test_what_crashed_it_crashes_it_again_to_the_byte(autojump_clock: MockClock) -> None:
    [death] = await recorded((0.25, Add(5)), (1.5, Add(-9, parts=(b"\xff", b""))), (0, Add(2)))
    assert death.ended == "ZeroDivisionError: the third"
    assert death.complete
    assert [(each.at, each.outcome, each.error) for each in death.received] == [
        (0.25, "handled", None),
        (1.75, "refused", "Enough: 5 is all there is"),
        (1.75, "crashed", "ZeroDivisionError: the third"),
    ]
    written = MessageLog.decode(death.encode())
    assert written == death
    for _ in range(2):
        assert (await replay(written, Counter)).encode() == death.encode()


async def test_a_crash_of_a_task_of_its_own_comes_at_its_time(autojump_clock: MockClock) -> None:
    [death] = await recorded((0, Later(0.5)), (0.1, Add(1)), (0.2, Add(1)))
    assert death.ended == "LookupError: after 0.5 s"
    assert (await replay(death, Counter)).encode() == death.encode()


async def test_a_mended_actor_lives_on(autojump_clock: MockClock) -> None:
    class Mended(Counter):
        async def handle(self, message: Any) -> None:
            self._count = 0
            await super().handle(message)

    [death] = await recorded((0, Add(5)), (1, Add(6)), (1, Add(7)))
    replayed = await replay(death, Mended)
    assert replayed.ended is None
    assert [each.outcome for each in replayed.received] == ["handled"] * 3


async def test_each_incarnation_has_a_log_of_its_own(autojump_clock: MockClock) -> None:
    first, second = await recorded(*[(0.5, Add(1))] * 3, *[(5.0, Add(2))] * 3)
    assert [each.message["fields"]["amount"] for each in first.received] == [1, 1, 1]
    assert [each.message["fields"]["amount"] for each in second.received] == [2, 2, 2]


async def test_what_was_forgotten_is_said(autojump_clock: MockClock) -> None:
    spec: ChildSpec[Any] = ChildSpec("counter", Counter)
    recorder = Recorder(most=2)
    async with open_system(SupervisorSpec("root", [spec])) as system:
        with system.tap(recorder):
            for amount in range(2):
                await spec.ref.ask(Add(amount), within=1)
            assert not recorder.log("/counter").complete  # it lived before
            await system.restart("/counter")
            await spec.ref.ask(Add(1), within=1)
            assert recorder.log("/counter").complete


async def test_what_was_sent_before_the_recording_is_not_in_it(autojump_clock: MockClock) -> None:
    spec: ChildSpec[Any] = ChildSpec("counter", Counter)
    recorder = Recorder()
    async with open_system(SupervisorSpec("root", [spec])) as system:
        spec.ref.try_tell(Add(1))
        with system.tap(recorder):
            await spec.ref.ask(Add(2), within=1)
            [received] = recorder.log("/counter").received
    assert received.message["fields"]["amount"] == 2


async def test_a_request_that_came_before_a_restart_is_recorded(autojump_clock: MockClock) -> None:
    spec: ChildSpec[Any] = ChildSpec("counter", Counter)
    recorder = Recorder()
    async with open_system(SupervisorSpec("root", [spec], backoff=Backoff(initial=1))) as system:
        with system.tap(recorder):
            await spec.ref.tell(Later(0))
            await trio.sleep(0.1)
            assert recorder.log("/counter").received[0].message["type"].endswith("Later")
            await spec.ref.ask(Add(2), within=5)
    log = recorder.log("/counter")
    assert [(each.asked, each.message["fields"]["amount"]) for each in log.received] == [(True, 2)]
    assert log.complete


async def test_what_an_incarnation_ended_with_does_not_end_the_recording(
    autojump_clock: MockClock,
) -> None:
    class Slow(Counter):
        async def handle(self, message: Any) -> None:
            if message == Add(9):
                await trio.sleep_forever()
            await super().handle(message)

    spec: ChildSpec[Any] = ChildSpec("counter", Slow)
    recorder = Recorder()
    async with open_system(SupervisorSpec("root", [spec], backoff=Backoff(initial=1))) as system:
        with system.tap(recorder):
            await spec.ref.tell(Later(0.5))
            for amount in (9, 1):
                await spec.ref.tell(Add(amount))
            await trio.sleep(5)
            await spec.ref.ask(Add(2), within=5)
    log = recorder.log("/counter")
    assert [each.message["fields"]["amount"] for each in log.received] == [1, 2]


async def test_secrets_are_left_out() -> None:
    assert "s3cret" not in str(to_value(LogIn("s3cret")))


def test_what_has_no_text_is_named() -> None:
    value = to_value([trio.Event()])
    assert msgspec.json.encode(value)
    with pytest.raises(NotReplayable, match="holds a Event"):
        from_value(value)


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ({"type": "no_such_module:Add", "fields": {}}, "No module named"),
        ({"type": f"{__name__}:Gone", "fields": {}}, "there is no"),
        ({"type": f"{__name__}:Counter", "fields": {}}, "no type of messages"),
        ({"type": f"{__name__}:Add", "fields": {"size": 1}}, "cannot be made"),
    ],
)
def test_what_cannot_be_made_again_says_why(value: Any, why: str) -> None:
    with pytest.raises(NotReplayable, match=why):
        from_value(value)


scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
things = st.recursive(
    scalars | st.binary() | st.just(Colour.RED) | st.builds(Later, st.floats(allow_nan=False)),
    lambda inner: (
        st.lists(inner)
        | st.lists(inner).map(tuple)
        | st.dictionaries(st.sampled_from(["type", "fields", "enum", "name", "bytes", "x"]), inner)
        | st.dictionaries(st.integers(), inner)
    ),
    max_leaves=10,
)


@given(things)
def test_any_value_comes_back(thing: Any) -> None:
    assert from_value(msgspec.json.decode(msgspec.json.encode(to_value(thing)))) == thing
