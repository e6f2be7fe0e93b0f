"""The registry of paths, and several systems in one process."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from pyoco_server.kernel import (
    Actor,
    ActorSystem,
    ChildSpec,
    Intensity,
    InvalidSpec,
    UnknownActor,
)

from .faults import Script, Step
from .probe import Do, Echo, Journal, Probe, crash_now, node, probe, running, tree


def paths(system: ActorSystem) -> list[str]:
    return [each.path for each in system.tree().walk()]


async def test_actors_are_found_by_path(autojump_clock: MockClock) -> None:
    a, b = probe("a", Journal()), probe("b", Journal())
    async with running(a, tree(b, name="nested")) as system:
        assert system.ref("/a") is a.ref
        assert system.ref("/nested/b") is b.ref
        assert a.ref.path == "/a"
        with pytest.raises(UnknownActor, match="no actor at '/b'; there are: /a, /nested/b"):
            system.ref("/b")
        with pytest.raises(UnknownActor):
            system.ref("/nested")  # a supervisor takes no messages


async def test_an_empty_system_knows_nobody(autojump_clock: MockClock) -> None:
    async with running() as system:
        with pytest.raises(UnknownActor, match="there are: none"):
            system.ref("/a")


async def test_a_path_is_known_before_its_actor_started(autojump_clock: MockClock) -> None:
    journal = Journal()
    younger = probe("younger", journal)

    async def tell_younger() -> None:
        await younger.ref.tell("from an older one")

    async with running(probe("older", journal, Script({Step.ON_START: tell_younger})), younger):
        pass
    assert journal.count("younger: from an older one") == 1


async def test_one_spec_stands_in_one_place(autojump_clock: MockClock) -> None:
    spec = probe("a", Journal())
    with pytest.raises(InvalidSpec, match="the spec of /a is used twice"):
        async with running(spec, tree(spec, name="nested")):
            pytest.fail("entered")


async def test_a_running_spec_cannot_stand_in_another_system(autojump_clock: MockClock) -> None:
    spec = probe("a", Journal())
    async with running(spec):
        with pytest.raises(InvalidSpec, match="used twice"):
            async with running(spec):
                pytest.fail("entered")
        assert await spec.ref.ask(Echo(), within=5) == "hello"


async def test_a_spec_may_be_run_again_after_its_system_ended(autojump_clock: MockClock) -> None:
    journal = Journal()
    a, b = probe("a", journal), probe("b", journal)

    async def tell_b() -> None:
        await b.ref.tell("early")

    teller = probe("teller", journal, Script({Step.ON_START: tell_b}))
    for _ in range(2):
        async with running(teller, a, b):
            assert await a.ref.ask(Echo(), within=5) == "hello"
        assert journal.take().count("b: early") == 1


async def test_systems_in_one_process_do_not_know_each_other(autojump_clock: MockClock) -> None:
    one, two = Journal(), Journal()
    in_one, in_two = probe("a", one), probe("a", two)
    async with running(in_one) as first, running(in_two) as second:
        assert first.ref("/a") is in_one.ref
        assert second.ref("/a") is in_two.ref
        await crash_now(in_one.ref)
        assert node(first, "/a").incarnation == 2
        assert node(second, "/a").incarnation == 1

        async def watch_stranger(me: Probe) -> None:
            with pytest.raises(UnknownActor, match="no actor at '/a' to monitor"):
                me.monitor(in_two.ref)

        await in_one.ref.ask(Do(watch_stranger), within=5)
    assert two.entries == ["start a", "stop a"]


async def test_a_system_may_run_inside_of_an_actor(autojump_clock: MockClock) -> None:
    journal = Journal()
    inner = probe("inner", journal)

    class Outer(Actor[str]):
        async def on_start(self) -> None:
            self.spawn(self.run_inner)

        async def run_inner(self) -> None:
            async with running(inner):
                await trio.sleep_forever()

        async def handle(self, message: str) -> None:
            journal.note(message)
            await crash_now(inner.ref)

    outer = ChildSpec("outer", Outer)
    async with running(outer):
        await outer.ref.tell("crash the inner one")
        await trio.sleep(1)
        assert await inner.ref.ask(Echo("from outside"), within=5) == "from outside"
    assert journal.entries == [
        "start inner",
        "crash the inner one",
        "stop inner",
        "start inner",
        "inner: from outside",
        "stop inner",
    ]


async def test_a_failing_inner_system_is_a_crash_of_its_actor(autojump_clock: MockClock) -> None:
    inner_spec = [probe("inner", Journal()) for _ in range(2)]
    inner = iter(inner_spec)

    class Outer(Actor[str]):
        async def on_start(self) -> None:
            self.spawn(self.run_inner)

        async def run_inner(self) -> None:
            async with running(next(inner), intensity=Intensity(restarts=0)):
                await trio.sleep_forever()

        async def handle(self, message: str) -> None:
            raise NotImplementedError

    async with running(ChildSpec("outer", Outer)) as system:
        await crash_now(inner_spec[0].ref, settle=1)
        assert node(system, "/outer").incarnation == 2
        assert await inner_spec[1].ref.ask(Echo(), within=5) == "hello"
