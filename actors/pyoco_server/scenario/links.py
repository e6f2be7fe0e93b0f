"""The connection between a process of the cast and NATS, which can be cut, muted and delayed."""

from __future__ import annotations

from contextlib import suppress

import trio

_CHUNK = 65_536
_CONNECT_SECONDS = 2.0


class Link:
    """A TCP proxy on a port of its own.

    Args:
        targets: Ports of NATS servers on this machine; the first that takes a connection gets it.
    """

    def __init__(self, targets: list[int]) -> None:
        self.port = 0
        self._targets = targets
        self._delay = 0.0
        self._cut = False
        self._muted = False
        self._unmuted = trio.Event()
        self._connections: set[trio.CancelScope] = set()

    async def serve(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Take connections until cancelled; started when `port` is known."""
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        async with listener, trio.open_nursery() as nursery:
            self.port = listener.socket.getsockname()[1]
            task_status.started()
            while True:
                stream = await listener.accept()
                nursery.start_soon(self._carry, stream)

    def cut(self) -> None:
        """Break all connections and refuse new ones."""
        self._cut = True
        for scope in self._connections:
            scope.cancel()

    def mute(self) -> None:
        """Let nothing through any more, without breaking anything."""
        self._muted = True

    def delay(self, seconds: float) -> None:
        """Let everything arrive later."""
        self._delay = seconds

    def heal(self) -> None:
        """Let everything through again."""
        self._cut = self._muted = False
        self._delay = 0.0
        unmuted, self._unmuted = self._unmuted, trio.Event()
        unmuted.set()

    async def _carry(self, stream: trio.SocketStream) -> None:
        async with stream:
            if self._cut:
                return
            target = await self._reach()
            if target is None:
                return
            async with target:
                with trio.CancelScope() as scope:
                    self._connections.add(scope)
                    try:
                        async with trio.open_nursery() as nursery:
                            nursery.start_soon(self._copy, stream, target, scope)
                            nursery.start_soon(self._copy, target, stream, scope)
                    finally:
                        self._connections.discard(scope)

    async def _reach(self) -> trio.SocketStream | None:
        for port in self._targets:
            with trio.move_on_after(_CONNECT_SECONDS), suppress(OSError):
                return await trio.open_tcp_stream("127.0.0.1", port)
        return None

    async def _copy(
        self, source: trio.SocketStream, sink: trio.SocketStream, scope: trio.CancelScope
    ) -> None:
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            while data := await source.receive_some(_CHUNK):
                if self._delay:
                    await trio.sleep(self._delay)
                while self._muted:
                    await self._unmuted.wait()
                await sink.send_all(data)
        scope.cancel()
