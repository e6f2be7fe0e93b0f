"""Taking back what a submission left that came to nothing: it outlives whoever submitted."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeAlias

import trio

from pyoco_server.jetstream.errors import BridgeError

Withdrawal: TypeAlias = Callable[[], Awaitable[None]]
"""Takes something back; tried again where it raises a `BridgeError`."""

_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 5.0


class Withdrawals:
    """What is to be taken back; told at once by those who are cancelled and cannot wait."""

    def __init__(self) -> None:
        self._open: set[Withdrawal] = set()
        self._new: set[Withdrawal] = set()
        self._more = trio.Event()

    def add(self, withdrawal: Withdrawal) -> None:
        """Have it carried out as soon as NATS lets us, for as long as the gateway lives."""
        self._open.add(withdrawal)
        self._new.add(withdrawal)
        self._more.set()

    async def carry_out(self) -> None:
        """Carry them out beside each other; begun again, with those that were not done before."""
        self._new |= self._open
        async with trio.open_nursery() as nursery:
            while True:
                for withdrawal in self._new:
                    nursery.start_soon(self._try, withdrawal)
                self._new.clear()
                self._more = trio.Event()
                await self._more.wait()

    async def _try(self, withdrawal: Withdrawal) -> None:
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
