"""Servers of other kinds than `nats_fixtures.node_in`: configured by hand, in a cluster, or only acting."""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import trio

from ports import free_port
from pyoco_server.node import server_executable
from pyoco_server.process import OwnedProcess, spawn_owned

_INFO = b'INFO {"server_id":"X","version":"2.12.0","max_payload":1048576,"headers":true}\r\n'


@dataclass
class Server:
    """A nats-server with a configuration of the test's own.

    Attributes:
        port: Where it listens, on 127.0.0.1.
        process: What runs.
    """

    port: int
    process: OwnedProcess

    @property
    def url(self) -> str:
        """For clients without a user."""
        return f"nats://127.0.0.1:{self.port}"


@asynccontextmanager
async def server_in(folder: Path, config: str = "", port: int = 0) -> AsyncIterator[Server]:
    """A nats-server with these lines in its configuration; it greets when the block is entered."""
    port = port or free_port()
    process = _start(folder, port, config)
    try:
        with trio.fail_after(60):
            while not await _greets(port):
                assert process.returncode is None, f"see {folder}/nats.log"
                await trio.sleep(0.02)
        yield Server(port, process)
    finally:
        with trio.CancelScope(shield=True):
            await process.stop(5.0)


def _start(folder: Path, port: int, config: str) -> OwnedProcess:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "nats.conf"
    file.write_text(
        f"host: 127.0.0.1\nport: {port}\njetstream {{ store_dir: '{folder}/js' }}\n{config}\n"
    )
    with (folder / "nats.log").open("ab") as log:
        return spawn_owned(
            [server_executable(), "-c", str(file)],
            stdin=subprocess.DEVNULL,
            stdout=log.fileno(),
            stderr=log.fileno(),
        )


async def _greets(port: int) -> bool:
    try:
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            return bytes(await stream.receive_some(4)) == b"INFO"
    except OSError:
        return False


@asynccontextmanager
async def cluster_in(folder: Path, size: int = 3) -> AsyncIterator[list[Server]]:
    """Servers in one cluster; JetStream may still be looking for its leader."""
    clients, routes = ([free_port() for _ in range(size)] for _ in range(2))
    urls = ", ".join(f"'nats://127.0.0.1:{port}'" for port in routes)
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(
                server_in(
                    folder / f"n{index}",
                    f"server_name: n{index}\n"
                    f"cluster {{ name: test, listen: '127.0.0.1:{route}', routes: [{urls}] }}",
                    port=client,
                )
            )
            for index, (client, route) in enumerate(zip(clients, routes, strict=True))
        ]


@dataclass
class ScriptedServer:
    """Speaks just enough of the protocol to be connected to; the first PUB gets the scripted line.

    Attributes:
        port: Where it listens, on 127.0.0.1.
        line: What it says to the first PUB.
        greeted: How many clients got through the greeting.
    """

    port: int
    line: bytes
    greeted: int = field(default=0)

    @property
    def url(self) -> str:
        """For clients."""
        return f"nats://127.0.0.1:{self.port}"

    async def serve(self, stream: trio.SocketStream) -> None:
        """Greet, answer pings, and misbehave when something is published."""
        said = False
        seen = b""
        try:
            await stream.send_all(_INFO)
            async for piece in stream:
                seen += bytes(piece)
                *lines, seen = seen.split(b"\r\n")
                for line in lines:
                    if line == b"PING":
                        self.greeted += 1
                        await stream.send_all(b"PONG\r\n")
                    elif line.startswith((b"PUB", b"HPUB")) and not said:
                        said = True
                        await stream.send_all(self.line)
        except trio.BrokenResourceError:
            pass


@asynccontextmanager
async def open_scripted_server(line: bytes) -> AsyncIterator[ScriptedServer]:
    """A server that answers the first PUB of each connection with ``line``."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    server = ScriptedServer(listener.socket.getsockname()[1], line)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, server.serve, [listener])
        yield server
        nursery.cancel_scope.cancel()
