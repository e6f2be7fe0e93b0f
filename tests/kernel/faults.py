"""What can go wrong in an actor's life: acts that crash, hang, delay or resist, and steps for them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, field
from enum import Enum

import trio

Act = Callable[[], Awaitable[None]]


class Boom(Exception):
    """The crash of an actor under test."""


class Step(Enum):
    """Where in an actor's life a fault sits."""

    CONSTRUCTOR = "constructor"
    ON_START = "on_start"
    HANDLE = "handle"
    TASK = "task"
    ON_STOP = "on_stop"


WAITING_STEPS = (Step.ON_START, Step.HANDLE, Step.TASK, Step.ON_STOP)
"""A constructor can crash, but it has no way to wait."""


def crash(error: BaseException) -> Act:
    """Raise ``error``."""

    async def act() -> None:
        raise error

    return act


async def hang() -> None:
    """Wait for ever, until cancelled."""
    await trio.sleep_forever()


def delay(seconds: float) -> Act:
    """Take ``seconds``, then go on."""

    async def act() -> None:
        await trio.sleep(seconds)

    return act


def resist(seconds: float) -> Act:
    """Be deaf to cancellation for ``seconds``, then go on."""

    async def act() -> None:
        with trio.CancelScope(shield=True):
            await trio.sleep(seconds)

    return act


def crash_when_cancelled(error: BaseException) -> Act:
    """Wait for ever, and raise ``error`` out of the clean-up after the cancellation."""

    async def act() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise error

    return act


def crash_beside_a_sleeper(error: BaseException) -> Act:
    """Raise ``error`` in a nursery whose other task is cancelled for it."""

    async def act() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            await trio.lowlevel.checkpoint()
            raise error

    return act


@dataclass
class Script:
    """Which act sits at which step, in which lives of an actor (the first is 1)."""

    acts: dict[Step, Act] = field(default_factory=dict)
    lives: Collection[int] = range(1, 1_000_000)
    life: int = 0

    def act(self, step: Step) -> Act | None:
        """The act of the current life at ``step``."""
        return self.acts.get(step) if self.life in self.lives else None
