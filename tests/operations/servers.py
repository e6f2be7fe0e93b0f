"""NATS servers with a configuration of the test's own: TLS, users, clusters."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import trio

from nats_fixtures import eventually
from pyoco_server.process import OwnedProcess, spawn_owned

NATS_SERVER = str(Path(sys.executable).parent / "nats-server")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Server:
    """A nats-server process."""

    port: int
    config: Path
    process: OwnedProcess

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"nats://{self.address}"

    async def answers(self) -> bool:
        with contextlib.suppress(OSError, trio.BrokenResourceError):
            async with await trio.open_tcp_stream("127.0.0.1", self.port) as stream:
                return bytes(await stream.receive_some(4)) == b"INFO"
        return False

    def pause(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self.process.send_signal(signal.SIGCONT)


@asynccontextmanager
async def server_with(
    folder: Path, config: str, port: int | None = None, host: str = "127.0.0.1"
) -> AsyncIterator[Server]:
    """A server that runs with the given configuration, but for its port and host."""
    server = start_server(folder, config, port or free_port(), host)
    try:
        await eventually(server.answers, what=f"an answer of {server.config}")
        yield server
    finally:
        await server.process.stop(5.0)


def start_server(folder: Path, config: str, port: int, host: str = "127.0.0.1") -> Server:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "server.conf"
    path.write_text(f"host: {host}\nport: {port}\n{config}\n")
    with (folder / "server.log").open("ab") as log:
        process = spawn_owned(
            [NATS_SERVER, "-c", str(path)],
            stdin=subprocess.DEVNULL,
            stdout=log.fileno(),
            stderr=log.fileno(),
        )
    return Server(port, path, process)
