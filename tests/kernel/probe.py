"""An actor that writes down its life and goes wrong as its script says, and ways to look at the outcome."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Any, TypeVar

import pytest
import trio

from pyoco_server.kernel import (
    Actor,
    ActorRef,
    ActorSystem,
    Backoff,
    ChildSpec,
    Down,
    Intensity,
    Reply,
    Request,
    SupervisorSpec,
    TreeNode,
    open_system,
)

from .faults import Boom, Script, Step, crash

E = TypeVar("E", bound=BaseException)

# Plain figures, so that tests can reckon with them; what a test is about it sets itself.
NO_WAIT = Backoff(initial=0.0)
PATIENT = Intensity(restarts=1_000_000, seconds=1.0, consecutive=math.inf)


@dataclass
class Journal:
    """What the probes did, in order."""

    entries: list[str] = field(default_factory=list)
    downs: list[Down] = field(default_factory=list)

    def note(self, entry: str) -> None:
        self.entries.append(entry)

    def take(self) -> list[str]:
        """The entries since the last call."""
        entries, self.entries = self.entries, []
        return entries

    def check(self) -> None:
        """Each life that started stopped once, and no two lives of one probe overlapped."""
        alive: set[str] = set()
        for entry in self.entries:
            what, _, name = entry.partition(" ")
            if what == "start":
                assert name not in alive, f"{name} runs twice"
                alive.add(name)
            elif what == "stop":
                assert name in alive, f"{name} stopped twice"
                alive.remove(name)
        assert not alive, f"{alive} never stopped"

    def count(self, entry: str) -> int:
        return self.entries.count(entry)


@dataclass(frozen=True)
class Do(Request[str]):
    """Run ``act`` with the probe inside of its handler; answered with ``answer`` where that is text."""

    act: Callable[[Probe], Awaitable[object]]
    answer: str | None = "done"


@dataclass(frozen=True)
class Echo(Request[str]):
    """Answered with the text, after the act of the script's HANDLE step."""

    text: str = "hello"


class Probe(Actor[object]):
    """Notes ``start NAME``, ``NAME: MESSAGE`` and ``stop NAME``."""

    def __init__(self, name: str, journal: Journal, script: Script) -> None:
        self.name = name
        self.journal = journal
        self.script = script
        self.kept: list[Reply[str]] = []
        script.life += 1
        act = script.act(Step.CONSTRUCTOR)
        if act is not None:
            _run_without_waiting(act())

    async def on_start(self) -> None:
        self.journal.note(f"start {self.name}")
        await self._run(Step.ON_START)
        if self.script.act(Step.TASK) is not None:
            self.spawn(self._run, Step.TASK)

    async def handle(self, message: object) -> None:
        match message:
            case Do(act, answer):
                await act(self)
                if answer is not None:
                    self.reply_to(message).send(answer)
            case Echo(text):
                self.journal.note(f"{self.name}: {text}")
                await self._run(Step.HANDLE)
                self.reply_to(message).send(text)
            case Down():
                self.journal.downs.append(message)
            case _:
                self.journal.note(f"{self.name}: {message}")
                await self._run(Step.HANDLE)

    async def on_stop(self) -> None:
        self.journal.note(f"stop {self.name}")
        await self._run(Step.ON_STOP)

    async def _run(self, step: Step) -> None:
        act = self.script.act(step)
        if act is not None:
            await act()


def _run_without_waiting(awaitable: Awaitable[None]) -> None:
    assert isinstance(awaitable, Coroutine)
    try:
        awaitable.send(None)
    except StopIteration:
        return
    raise AssertionError("a constructor cannot wait")


def probe(
    name: str, journal: Journal, script: Script | None = None, **spec: Any
) -> ChildSpec[object]:
    """The spec of a probe."""
    used = script or Script()
    return ChildSpec(name, lambda: Probe(name, journal, used), **spec)


def tree(*children: Any, name: str = "root", **spec: Any) -> SupervisorSpec:
    """A supervisor that restarts at once and has endless patience unless told otherwise."""
    spec = {"backoff": NO_WAIT, "intensity": PATIENT, **spec}
    return SupervisorSpec(name, children, **spec)


@asynccontextmanager
async def running(*children: Any, **spec: Any) -> AsyncIterator[ActorSystem]:
    """Run a tree of ``children`` below a root; hanging for a virtual hour fails the test."""
    with trio.fail_after(3600):
        async with open_system(tree(*children, **spec), random=Random(7)) as system:
            yield system


def node(system: ActorSystem, path: str) -> TreeNode:
    """The picture of what stands at ``path`` right now."""
    found = system.tree().find(path)
    assert found is not None
    return found


class Caught:
    """A failing tree and, in the end, what it raised."""

    system: ActorSystem
    group: ExceptionGroup[Exception]


@asynccontextmanager
async def failing(*children: Any, **spec: Any) -> AsyncIterator[Caught]:
    """Run a tree that fails, which is to end the block: reaching its end fails the test."""
    caught = Caught()
    try:
        async with running(*children, **spec) as caught.system:
            yield caught
            await trio.sleep(100)
            pytest.fail("the tree did not fail")
    except ExceptionGroup as group:
        caught.group = group


async def failed_start(*children: Any, **spec: Any) -> ExceptionGroup[Exception]:
    """What a tree raises that fails to start; entering its block fails the test."""
    try:
        async with running(*children, **spec):
            pytest.fail("the block was entered")
    except ExceptionGroup as group:
        return group


async def boom(_: Probe) -> None:
    """Crash the probe that handles it."""
    await crash(Boom("boom"))()


async def crash_now(ref: ActorRef[Any], *, settle: float = 0.01) -> None:
    """Crash an actor and let the supervisor do what it does about it within ``settle`` seconds."""
    ref.try_tell(Do(boom))
    await trio.sleep(settle)


async def crash_times(spec: Any, times: int, *, every: float) -> None:
    """Crash an actor again and again, ``every`` so many seconds."""
    for _ in range(times):
        await crash_now(spec.ref, settle=every)


def leaves(error: BaseException) -> Iterator[BaseException]:
    """The errors inside of a group, however deep."""
    if isinstance(error, BaseExceptionGroup):
        for part in error.exceptions:
            yield from leaves(part)
    else:
        yield error


def find(error: BaseException, kind: type[E]) -> E | None:
    """The first error of that kind, groups included."""
    if isinstance(error, kind):
        return error
    if isinstance(error, BaseExceptionGroup):
        for part in error.exceptions:
            found = find(part, kind)
            if found is not None:
                return found
    return None
