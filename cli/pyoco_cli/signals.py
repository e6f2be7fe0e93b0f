"""Ctrl-C and SIGTERM: the first asks for an orderly stop, the second hurries it."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio


class StopSignal:
    """Set when the process was asked to stop."""

    def __init__(self) -> None:
        self.asked = trio.Event()
        self._signal: int | None = None

    def by(self, number: int) -> None:
        """Note the signal that asked."""
        if self._signal is None:
            self._signal = number
        self.asked.set()

    def by_order(self) -> None:
        """Note that it was asked in another way; the signal that follows is the first one."""
        self.asked.set()

    @asynccontextmanager
    async def nursery(self) -> AsyncIterator[trio.Nursery]:
        """A nursery that is cancelled at the end of its block, and once the process is asked to stop."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._end, nursery.cancel_scope)
            yield nursery
            nursery.cancel_scope.cancel()

    async def _end(self, scope: trio.CancelScope) -> None:
        await self.asked.wait()
        scope.cancel()

    @property
    def signalled(self) -> bool:
        """Whether a signal asked."""
        return self._signal is not None

    @property
    def exit_code(self) -> int:
        """130 after Ctrl-C, as shells expect; 0 after SIGTERM, which is how services are stopped."""
        return 130 if self._signal == signal.SIGINT else 0


@asynccontextmanager
async def stop_signals() -> AsyncIterator[StopSignal]:
    """Catch both signals inside of the block; the second one cancels the block."""
    stop = StopSignal()

    async def listen(*, task_status: trio.TaskStatus[None]) -> None:
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            task_status.started()
            async for number in signals:
                if stop.signalled:
                    nursery.cancel_scope.cancel()
                stop.by(number)

    async with trio.open_nursery() as nursery:
        await nursery.start(listen)
        yield stop
        nursery.cancel_scope.cancel()
