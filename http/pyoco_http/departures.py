"""Notices clients that go away while their calls are handled in their connections' own tasks.

Such a task waits for NATS and not for its client. One task looks after all of them, so that a call which is
answered at once costs no task of its own.
"""

from __future__ import annotations

import select
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import trio

_EVERY_SECONDS: Final = 0.05


class Departures:
    """The calls that wait, and their clients' sockets."""

    def __init__(self) -> None:
        self._waiting: dict[int, trio.CancelScope] = {}
        self._some = trio.Event()

    @contextmanager
    def watching(self, stream: trio.SocketStream) -> Iterator[trio.CancelScope]:
        """Cancel the block when the client is gone, a twentieth of a second later at most."""
        descriptor = stream.socket.fileno()
        with trio.CancelScope() as scope:
            self._waiting[descriptor] = scope
            if len(self._waiting) == 1:
                self._some.set()
            try:
                yield scope
            finally:
                del self._waiting[descriptor]

    async def look(self) -> None:
        """Look after them until cancelled; while there are none it sleeps."""
        while True:
            await self._some.wait()
            await trio.sleep(_EVERY_SECONDS)
            if not self._waiting:
                self._some = trio.Event()
                continue
            sockets = select.poll()
            for descriptor in self._waiting:
                # Its end of the connection, too, is how a client goes away.
                sockets.register(descriptor, select.POLLRDHUP)
            for descriptor, _ in sockets.poll(0):
                self._waiting[descriptor].cancel()
