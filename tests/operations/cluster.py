"""Three NATS nodes on this machine, started with nats-bootstrap as docs/guides/cluster.md says."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import trio

from nats_fixtures import eventually
from operations.servers import NATS_SERVER, free_port
from pyoco_server.node import read_greeting
from pyoco_server.process import OwnedProcess, spawn_owned

NATS_BOOTSTRAP = str(Path(sys.executable).parent / "nats-bootstrap")
LOOPBACK = "127.0.0.1"


@dataclass
class ClusterNode:
    """One of the three."""

    name: str
    argv: list[str]
    folder: Path
    port: int
    process: OwnedProcess | None = None

    @property
    def url(self) -> str:
        return f"nats://{LOOPBACK}:{self.port}"

    def start(self) -> None:
        with (self.folder / "said.log").open("ab") as log:
            self.process = spawn_owned(
                self.argv,
                cwd=self.folder,
                env={**os.environ, "NATS_SERVER_PATH": NATS_SERVER},
                stdin=subprocess.DEVNULL,
                stdout=log.fileno(),
                stderr=log.fileno(),
            )

    def send(self, number: int) -> None:
        """Signal the nats-server, which is a child of nats-bootstrap."""
        assert self.process is not None
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    async def kill(self) -> None:
        self.send(signal.SIGKILL)
        assert self.process is not None
        await self.process.wait()


@dataclass
class Cluster:
    """All three."""

    nodes: list[ClusterNode] = field(default_factory=list)

    @property
    def url(self) -> str:
        return ",".join(node.url for node in self.nodes)

    def node(self, name: str) -> ClusterNode:
        return next(node for node in self.nodes if node.name == name)


@asynccontextmanager
async def three_nodes(folder: Path) -> AsyncIterator[Cluster]:
    """A cluster whose nodes answer; its JetStream may still need a moment."""
    cluster = Cluster()
    cluster_ports = [free_port() for _ in range(3)]
    routes = ",".join(f"nats://{LOOPBACK}:{port}" for port in cluster_ports)
    for number, cluster_port in enumerate(cluster_ports, 1):
        node_folder = make_folder(folder, f"n{number}")
        client_port = free_port()
        # nats-bootstrap 0.1's own `up --cluster` and `join` end with an AttributeError.
        argv = [
            *[NATS_BOOTSTRAP, "up", "--", "-js", "-sd", str(node_folder)],
            *["-n", f"n{number}", "-a", LOOPBACK, "-p", str(client_port)],
            *["--cluster_name", "pyoco", "--cluster", f"nats://{LOOPBACK}:{cluster_port}"],
            *["--routes", routes],
        ]
        cluster.nodes.append(ClusterNode(f"n{number}", argv, node_folder, client_port))
    try:
        for node in cluster.nodes:
            node.start()

        async def up() -> bool:
            greetings = [await read_greeting(node.url) for node in cluster.nodes]
            return all(greeting is not None for greeting in greetings)

        await eventually(up, within=60, what="three nodes")
        yield cluster
    finally:
        for node in cluster.nodes:
            node.send(signal.SIGCONT)
        for node in cluster.nodes:
            if node.process is not None:
                with trio.CancelScope(shield=True):
                    node.send(signal.SIGKILL)
                    await node.process.stop(0.0)


def make_folder(parent: Path, name: str) -> Path:
    folder = parent / name
    folder.mkdir()
    return folder
