"""Real NATS nodes and connections for tests."""

from __future__ import annotations

import errno
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import trio

from ports import free_port
from pyoco_server.jetstream.connection import Connection, ConnectionOptions, open_connection
from pyoco_server.node import Node, open_node

__all__ = [
    "Connection",
    "ConnectionOptions",
    "Node",
    "away",
    "connected",
    "eventually",
    "killed",
    "node_in",
    "paused",
]


@asynccontextmanager
async def node_in(folder: Path, **options: Any) -> AsyncIterator[Node]:
    """A node of this test's own. It does not wait for the disk, which nothing here could notice."""
    async with open_node(
        store_dir=folder, **{"sync_always": False, "port": free_port(), **options}
    ) as node:
        yield node


@asynccontextmanager
async def connected(node: Node, **options: Any) -> AsyncIterator[Connection]:
    """A connection that is up."""
    async with open_connection(ConnectionOptions(urls=(node.url,), **options)) as connection:
        await connection.wait_connected(within=60)
        yield connection


async def killed(node: Node, connection: Connection) -> None:
    """Kill the server; return when the connection has noticed and is back."""
    epoch, restarts = connection.epoch, node.restarts
    node.kill()
    with trio.fail_after(60):
        while node.restarts == restarts:
            await trio.sleep(0.01)
        while connection.epoch == epoch or not connection.status.connected:
            await connection.changed()


@asynccontextmanager
async def away(node: Node | None, connection: Connection) -> AsyncIterator[None]:
    """Kill the server, and keep it from being started again; the connection has noticed when it begins."""
    assert node is not None

    def not_yet(*_: Any, **__: Any) -> None:
        raise OSError(errno.EAGAIN, "not before the test is through")

    with mock.patch("pyoco_server.node.spawn_owned", not_yet):
        node.kill()
        with trio.fail_after(60):
            while connection.status.connected:
                await connection.changed()
        yield


@contextmanager
def paused(node: Node) -> Iterator[None]:
    """Stop the server's process for the length of the block."""
    pid = node.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    # A busy machine takes a moment to stop all of its threads.
    while "\nState:\tT" not in Path(f"/proc/{pid}/status").read_text():
        time.sleep(0.001)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


async def eventually(
    condition: Callable[[], Awaitable[Any]], *, within: float = 60, what: str = "the condition"
) -> Any:
    """Wait for an async condition that nothing announces; return what it returned."""
    with trio.move_on_after(within):
        while True:
            result = await condition()
            if result:
                return result
            await trio.sleep(0.02)
    raise AssertionError(f"not within {within} s: {what}")
