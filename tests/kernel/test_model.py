"""Random trees and random trouble: a small model foretells who lives, and rules hold whatever happens."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Any

import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from pyoco_server.kernel import (
    ActorDown,
    ActorSystem,
    Backoff,
    ChildSpec,
    Intensity,
    KernelError,
    MailboxFull,
    Restart,
    State,
    Strategy,
    open_system,
    plan,
)

from .faults import Boom, Script, Step, crash, delay
from .probe import Do, Journal, Probe, boom, tree

quick = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@dataclass(eq=False)
class Place:
    """A place of the model: an actor where ``strategy`` is None, else a supervisor."""

    id: str
    restart: Restart
    strategy: Strategy | None = None
    children: list[Place] = field(default_factory=list)
    parent: Place | None = None
    incarnation: int = 0
    finished: bool = False

    @property
    def path(self) -> str:
        return "" if self.parent is None else f"{self.parent.path}/{self.id}"

    @property
    def alive(self) -> bool:
        return not self.finished and (self.parent is None or self.parent.alive)

    def walk(self) -> Iterator[Place]:
        yield self
        for child in self.children:
            yield from child.walk()

    def start(self) -> None:
        self.incarnation += 1
        self.finished = False
        for child in self.children:
            child.start()

    def end(self) -> None:
        """It ended by itself and does not come back."""
        self.finished = True

    def crash(self) -> None:
        """It ended and comes back, with those who share its fate."""
        assert self.parent is not None
        assert self.parent.strategy is not None
        siblings = {sibling.id: sibling for sibling in self.parent.children}
        planned = plan(self.parent.strategy, tuple(siblings), self.id)
        for name in planned.stop:
            if siblings[name].restart is Restart.TEMPORARY:
                siblings[name].finished = True
        for name in planned.start:
            if not siblings[name].finished:
                siblings[name].start()


def places(depth: int) -> st.SearchStrategy[Any]:
    """Trees as nested tuples: (restart,) is an actor, (restart, strategy, children) a supervisor."""
    actor = st.tuples(st.sampled_from(Restart))
    if depth == 0:
        return actor
    children = st.lists(places(depth - 1), min_size=1, max_size=3)
    supervisor = st.tuples(st.sampled_from(Restart), st.sampled_from(Strategy), children)
    return st.one_of(actor, supervisor, supervisor)


roots = st.tuples(
    st.just(Restart.PERMANENT),
    st.sampled_from(Strategy),
    st.lists(places(2), min_size=1, max_size=4),
)


def build(drawn: Any, name: str = "root", parent: Place | None = None) -> Place:
    place = Place(name, drawn[0], parent=parent)
    if len(drawn) == 3:
        place.strategy = drawn[1]
        for number, child in enumerate(drawn[2]):
            place.children.append(build(child, f"{name[0]}{number}", place))
    return place


@dataclass
class Stage:
    """The specs of a tree of places, and what their probes note."""

    journal: Journal = field(default_factory=Journal)
    scripts: dict[str, Script] = field(default_factory=dict)
    specs: dict[str, Any] = field(default_factory=dict)

    def spec(self, place: Place, acts: dict[Step, Any], **supervisor: Any) -> Any:
        if place.strategy is not None:
            children = [self.spec(child, acts, **supervisor) for child in place.children]
            return tree(
                *children,
                name=place.id,
                strategy=place.strategy,
                restart=place.restart,
                **(supervisor if place.parent is not None else {}),
            )
        script = self.scripts[place.path] = Script(dict(acts))
        spec = probe_at(place, self.journal, script)
        self.specs[place.path] = spec
        return spec


def probe_at(place: Place, journal: Journal, script: Script) -> Any:
    return ChildSpec(
        place.id,
        lambda: Probe(place.path, journal, script),
        place.restart,
        shutdown_seconds=2,
        start_within=10,
    )


async def end_itself(me: Probe) -> None:
    me.stop()


operations = st.tuples(st.sampled_from(["crash", "end", "restart"]), st.integers(0, 100))


@quick
@given(roots, st.lists(operations, max_size=12))
def test_the_model_foretells_who_lives(drawn: Any, trouble: list[tuple[str, int]]) -> None:
    root = build(drawn)
    stage = Stage()

    async def main() -> None:
        with trio.fail_after(10_000):
            async with open_system(stage.spec(root, {}), random=Random(1)) as system:
                root.start()
                for what, number in trouble:
                    await apply(system, what, number)
                    compare(system)
        assert {node.state for node in system.tree().walk()} == {State.STOPPED}

    async def apply(system: ActorSystem, what: str, number: int) -> None:
        everything = [place for place in root.walk() if place.parent is not None]
        place = everything[number % len(everything)]
        assert place.parent is not None
        if what == "restart":
            if place.parent.alive:
                await system.restart(place.path)
                place.start()
        elif place.strategy is None and place.alive:
            stage.specs[place.path].ref.try_tell(Do(boom if what == "crash" else end_itself))
            await trio.sleep(1)
            back = place.restart is Restart.PERMANENT or (
                place.restart is Restart.TRANSIENT and what == "crash"
            )
            place.crash() if back else place.end()

    def compare(system: ActorSystem) -> None:
        picture = system.tree()
        for place in root.walk():
            node = picture.find(place.path or "/")
            assert node is not None
            running = State.SUPERVISING if place.strategy else State.IDLE
            expected = (
                place.path or "/",
                place.incarnation,
                running if place.alive else State.STOPPED,
            )
            assert (node.path, node.incarnation, node.state) == expected

    trio.run(main, clock=MockClock(autojump_threshold=0))
    stage.journal.check()


chaos = st.tuples(
    st.sampled_from(
        [
            *("crash", "crash", "crash", "crash", "end", "end", "tell"),
            *("break", "slow", "heal", "heal"),
            "restart",
        ]
    ),
    st.integers(0, 100),
    st.sampled_from([0.0, 0.01, 0.7, 3.0]),
)


@quick
@given(
    roots,
    st.lists(chaos, min_size=10, max_size=40),
    st.integers(),
    st.sampled_from([0.0, 0.5, 4.0]),
    st.one_of(st.just(1000.0), st.floats(0, 30)),
)
def test_whatever_happens_all_that_started_stops_once_and_nothing_hangs(
    drawn: Any, trouble: list[tuple[str, int, float]], seed: int, pause: float, cancel_after: float
) -> None:
    """Nothing waits for anything here: crashes, restarts and the end of it all overlap as they like."""
    root = build(drawn)
    stage = Stage()
    acts = {Step.ON_STOP: delay(0.3), Step.ON_START: delay(0.2)}
    spec = stage.spec(
        root,
        acts,
        backoff=Backoff(initial=pause),
        intensity=Intensity(restarts=1, seconds=5, consecutive=3),
    )
    raised: list[ExceptionGroup[Exception]] = []

    async def restart(system: ActorSystem, path: str) -> None:
        with contextlib.suppress(KernelError, Boom, ExceptionGroup):
            await system.restart(path)

    async def main() -> None:
        random = Random(seed)
        system: ActorSystem | None = None
        try:
            with trio.move_on_after(cancel_after):
                async with (
                    trio.open_nursery() as nursery,
                    open_system(spec, random=random) as system,
                ):
                    for what, number, wait in trouble:
                        await cause(system, nursery, what, number)
                        await trio.sleep(wait)
        except ExceptionGroup as group:
            raised.append(group)
        if system is not None:
            assert {node.state for node in system.tree().walk()} == {State.STOPPED}

    async def cause(system: ActorSystem, nursery: trio.Nursery, what: str, number: int) -> None:
        everything = [place for place in root.walk() if place.parent is not None]
        place = everything[number % len(everything)]
        if what == "restart":
            nursery.start_soon(restart, system, place.path)
        elif place.strategy is None:
            script = stage.scripts[place.path]
            match what:
                case "break":
                    script.acts[Step.ON_START] = crash(Boom("no start"))
                case "slow":
                    script.acts[Step.ON_START] = delay(number % 40)
                    script.acts[Step.HANDLE] = delay(number % 5)
                case "heal":
                    script.acts.update(acts)
                case _:
                    message: Any = {"crash": Do(boom), "end": Do(end_itself)}.get(what, "hello")
                    with contextlib.suppress(ActorDown, MailboxFull):
                        stage.specs[place.path].ref.try_tell(message)

    trio.run(main, clock=MockClock(autojump_threshold=0))
    stage.journal.check()
    assert raised == []  # supervisors below give up now and then, the root has endless patience
