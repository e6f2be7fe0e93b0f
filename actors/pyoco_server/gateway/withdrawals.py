"""Taking back what a submission left that came to nothing: it outlives whoever submitted."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Never, TypeAlias

import trio

from pyoco_server.jetstream.errors import BridgeError
from pyoco_server.kernel import Actor

Withdrawal: TypeAlias = Callable[[], Awaitable[None]]
"""Takes something back; tried again where it raises a `BridgeError`."""

_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 5.0


class Withdrawals:
    """What waits to be taken back; told at once by those who are cancelled and cannot wait."""

    def __init__(self) -> None:
        self._waiting: list[Withdrawal] = []
        self._more = trio.Event()

    def add(self, withdrawal: Withdrawal) -> None:
        """Have it carried out as soon as NATS lets us, for as long as the gateway lives."""
        self._waiting.append(withdrawal)
        self._more.set()

    async def take(self) -> list[Withdrawal]:
        """Wait for what was added. For the actor."""
        await self._more.wait()
        self._more = trio.Event()
        taken, self._waiting = self._waiting, []
        return taken


class Withdrawer(Actor[Never]):
    """Carries withdrawals out, beside each other."""

    def __init__(self, withdrawals: Withdrawals) -> None:
        self._withdrawals = withdrawals
        self._open: set[Withdrawal] = set()

    async def on_start(self) -> None:
        """Begin."""
        self.spawn(self._serve)

    async def on_stop(self) -> None:
        """Leave to the next incarnation what this one did not get done."""
        for withdrawal in self._open:
            self._withdrawals.add(withdrawal)

    async def _serve(self) -> None:
        while True:
            for withdrawal in await self._withdrawals.take():
                self._open.add(withdrawal)
                self.spawn(self._carry_out, withdrawal)

    async def _carry_out(self, withdrawal: Withdrawal) -> None:
        pause = _FIRST_PAUSE_SECONDS
        while True:
            try:
                await withdrawal()
            except BridgeError:
                await trio.sleep(pause)
                pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)
            else:
                self._open.discard(withdrawal)
                return
