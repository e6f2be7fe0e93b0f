"""Notices clients that go away while their calls are handled: the tasks of these wait for something else."""

from __future__ import annotations

import select
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import trio

# Its end of the connection, too, is how a client goes away.
_GONE = select.EPOLLRDHUP | select.EPOLLONESHOT


class Departures:
    """Looks after all clients with one task, which wakes up only when one of them goes."""

    def __init__(self) -> None:
        self._sockets = select.epoll()
        self._leave: dict[int, Callable[[], None]] = {}

    @contextmanager
    def watching(self, stream: trio.SocketStream, leave: Callable[[], None]) -> Iterator[None]:
        """Call ``leave`` once if the client goes away during the block."""
        descriptor = stream.socket.fileno()
        self._sockets.register(descriptor, _GONE)
        self._leave[descriptor] = leave
        try:
            yield
        finally:
            del self._leave[descriptor]
            with suppress(
                OSError, ValueError
            ):  # one of the two is closed, and it thereby forgotten
                self._sockets.unregister(descriptor)

    async def look(self) -> None:
        """Look after them until cancelled."""
        with self._sockets:
            while True:
                await trio.lowlevel.wait_readable(self._sockets)
                for descriptor, _ in self._sockets.poll(0):
                    self._leave[descriptor]()
