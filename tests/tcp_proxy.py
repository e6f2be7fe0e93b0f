"""A TCP proxy that can do to a connection what networks do: cut, delay, hold, in one direction or both."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Literal

import trio

Direction = Literal["up", "down"]
_BOTH: tuple[Direction, ...] = ("up", "down")
_CHUNK = 64 * 1024


class TcpProxy:
    """Made by `open_proxy`.

    Attributes:
        port: Where it listens, on 127.0.0.1.
        delay: How long each piece is under way, in seconds, in each direction.
        pace: How many bytes a second go through, in each direction.
        refusing: Whether new connections are closed at once.
        accepted: How many connections there were.
        most_up: How many bytes may go to the server; what is more is held.
    """

    def __init__(self, port: int, target_port: int) -> None:
        self.port = port
        self.delay = 0.0
        self.pace = math.inf
        self.refusing = False
        self.accepted = 0
        self.most_up: int | None = None
        self._gone_up = 0
        self._target_port = target_port
        self._open: set[trio.CancelScope] = set()
        self._held: set[Direction] = set()
        self._healed = trio.Event()

    @property
    def nats_url(self) -> str:
        """For a client of the NATS server behind it."""
        return f"nats://127.0.0.1:{self.port}"

    def cut(self) -> None:
        """Close the connections that are open; new ones are taken."""
        for scope in tuple(self._open):
            scope.cancel()

    @contextmanager
    def held(self, *directions: Direction) -> Iterator[None]:
        """Let nothing through, without closing anything, as a broken network does.

        Args:
            directions: ``up`` to the server, ``down`` from it; both by default.
        """
        self._held.update(directions or _BOTH)
        try:
            yield
        finally:
            self._held.difference_update(directions or _BOTH)
            healed, self._healed = self._healed, trio.Event()
            healed.set()

    @contextmanager
    def down(self) -> Iterator[None]:
        """Nobody gets through, and everybody is told at once, as when a server is not running."""
        self.refusing = True
        self.cut()
        try:
            yield
        finally:
            self.refusing = False

    async def _serve(self, client: trio.SocketStream) -> None:
        self.accepted += 1
        if self.refusing:
            await client.aclose()
            return
        try:
            server = await trio.open_tcp_stream("127.0.0.1", self._target_port)
        except OSError:
            await client.aclose()
            return
        with trio.CancelScope() as scope:
            self._open.add(scope)
            try:
                async with client, server, trio.open_nursery() as nursery:
                    nursery.start_soon(self._carry, "up", client, server, scope)
                    nursery.start_soon(self._carry, "down", server, client, scope)
            finally:
                self._open.discard(scope)

    def _holds(self, direction: Direction) -> bool:
        full = self.most_up is not None and self._gone_up > self.most_up
        return direction in self._held or (direction == "up" and full)

    async def _carry(
        self,
        direction: Direction,
        source: trio.SocketStream,
        sink: trio.SocketStream,
        scope: trio.CancelScope,
    ) -> None:
        """Carry one direction; its end is the end of both."""
        # As much as may be under way at a time; beyond it the source feels the delay.
        send, receive = trio.open_memory_channel[tuple[float, bytes]](1024)

        async def take() -> None:
            with send:
                while piece := bytes(await source.receive_some(_CHUNK)):
                    await send.send((trio.current_time() + self.delay, piece))

        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(take)
                async for due, piece in receive:
                    await trio.sleep_until(due)
                    await trio.sleep(len(piece) / self.pace)
                    if direction == "up":
                        self._gone_up += len(piece)
                    while self._holds(direction):
                        await self._healed.wait()
                    await sink.send_all(piece)
        except* (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        scope.cancel()


@asynccontextmanager
async def open_proxy(target_port: int) -> AsyncIterator[TcpProxy]:
    """Listen on a free port of 127.0.0.1 for the length of the block, for a server on another."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    proxy = TcpProxy(listener.socket.getsockname()[1], target_port)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, proxy._serve, [listener])
        yield proxy
        nursery.cancel_scope.cancel()
