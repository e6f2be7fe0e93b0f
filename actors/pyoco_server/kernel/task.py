"""Coroutines under supervision: they take no messages; what they know is shared by those that call."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Never

from .actor import Actor
from .spec import ChildSpec


class Task(Actor[Never]):
    """Runs coroutines side by side, for ever; when one fails, the supervisor starts all of them again.

    ``close`` releases what they had, however they ended.
    """

    def __init__(
        self,
        *runs: Callable[[], Awaitable[None]],
        close: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._runs = runs
        self._close = close

    async def on_start(self) -> None:
        """Begin to run them."""
        for run in self._runs:
            self.spawn(run)

    async def on_stop(self) -> None:
        """Release what they had."""
        if self._close is not None:
            await self._close()


def task(
    name: str,
    *runs: Callable[[], Awaitable[None]],
    close: Callable[[], Awaitable[None]] | None = None,
) -> ChildSpec[Never]:
    """The spec of a `Task`."""
    return ChildSpec(name, lambda: Task(*runs, close=close))
