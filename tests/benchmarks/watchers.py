"""Watchers of runs by the hundred, a fifth of which never read; raw sockets, to measure the gateway alone."""

from __future__ import annotations

import socket
import statistics
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec
import trio

from benchmarks.figures import Measures
from benchmarks.processes import memory_mib
from benchmarks.pyoco import Version, open_installation
from benchmarks.sizes import Sizes
from e2e.programs import Stage
from http_api.seeding import snapshot
from pyoco_server.jetstream.connection import ConnectionOptions, open_connection
from pyoco_server.jetstream.keyvalue import KeyValue

# So much that what a connection can hold unread is full long before the end.
_BALLAST: Final = {"ballast": "x" * 40_000}


@dataclass
class Watchers:
    """Clients of `GET /runs/{run_id}/watch`.

    Attributes:
        port: Where the gateway listens, on this machine.
        delays: Seconds from the beginning of a write to its event, of all that read.
        greeted: How many have got the present state.
    """

    port: int
    delays: list[float] = field(default_factory=list)
    greeted: int = 0

    async def watch(self, run_id: str, written: dict[bytes, float]) -> None:
        """Read events until cancelled.

        Args:
            run_id: What to watch.
            written: When the write of each mark began.
        """
        stream = await trio.open_tcp_stream("127.0.0.1", self.port)
        async with stream:
            await stream.send_all(self._request(run_id))
            buffer = b""
            while data := await stream.receive_some():
                now = time.perf_counter()
                buffer += data
                while b"\n\n" in buffer:
                    event, _, buffer = buffer.partition(b"\n\n")
                    if b"event: snapshot" not in event:
                        continue
                    mark = event.partition(b'"error":"')[2].partition(b'"')[0]
                    if mark in written:
                        self.delays.append(now - written[mark])
                    else:
                        self.greeted += 1
        raise AssertionError(f"the events of {run_id} ended with {buffer!r}")

    async def stall(self, run_id: str) -> socket.socket:
        """Ask for a stream, and never read it; close the socket that is returned."""
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        asynchronous = trio.socket.from_stdlib_socket(client)
        await asynchronous.connect(("127.0.0.1", self.port))
        await asynchronous.send(self._request(run_id))
        return client

    @staticmethod
    def _request(run_id: str) -> bytes:
        return (
            f"GET /runs/{run_id}/watch?timeout_sec=600 HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
        )


async def write(bucket: KeyValue, run_id: str, mark: str = "", **changes: Any) -> None:
    """Store a state of a run that carries a mark."""
    state = snapshot(run_id, status="RUNNING", error=mark or None, **changes)
    await bucket.put(run_id, msgspec.json.encode(state), within=30)


@dataclass(frozen=True)
class Told:
    """How watchers were told.

    Attributes:
        delays: Seconds from the beginning of each write to its event, of all that read.
        each_kib: Memory of the gateway for a watcher.
        grown_mib: By how much it grew while the events were written.
    """

    delays: list[float]
    each_kib: float
    grown_mib: float

    @property
    def median_ms(self) -> float:
        """The median delay."""
        return statistics.median(self.delays) * 1000

    @property
    def p99_ms(self) -> float:
        """What all but one in a hundred stay under."""
        return statistics.quantiles(self.delays, n=100)[98] * 1000


async def told(stage: Stage, gateway: int, count: int, writes: int) -> Told:
    """Have runs watched and written.

    Args:
        stage: Where a gateway is ready.
        gateway: Its process.
        count: How many watchers; four fifths of them read.
        writes: How many states are written, and each tenth of them a large one that nobody reads.
    """
    runs, reading = count // 10, count * 4 // 5
    with ExitStack() as sockets:
        async with open_connection(ConnectionOptions(urls=(stage.nats_url,))) as connection:
            await connection.wait_connected(within=20)
            bucket = KeyValue(connection, "pyoco_runs")
            for number in range(runs):
                await write(bucket, f"r{number}")
            await write(bucket, "large", params=_BALLAST)
            before = memory_mib(gateway)
            watchers, written = Watchers(stage.http_port), dict[bytes, float]()
            async with trio.open_nursery() as nursery:
                with trio.fail_after(120):
                    for number in range(reading):
                        nursery.start_soon(watchers.watch, f"r{number % runs}", written)
                        # A busy gateway gives up those that it lets wait for too long.
                        while watchers.greeted < number - 50:
                            await trio.sleep(0.05)
                    for _ in range(count - reading):
                        sockets.enter_context(await watchers.stall("large"))
                    while watchers.greeted < reading:
                        await trio.sleep(0.05)
                opened = memory_mib(gateway)
                for number in range(writes):
                    if number % 10 == 0:
                        await write(bucket, "large", f"l{number}", params=_BALLAST)
                    mark = f"m{number}"
                    written[mark.encode()] = time.perf_counter()
                    await write(bucket, f"r{number % runs}", mark)
                    await trio.sleep(0.02)
                expected = sum(reading // runs + (n % runs < reading % runs) for n in range(writes))
                with trio.fail_after(60):
                    while len(watchers.delays) < expected:
                        await trio.sleep(0.05)
                after = memory_mib(gateway)
                nursery.cancel_scope.cancel()
    return Told(watchers.delays, (opened - before) * 1024 / count, after - opened)


def watching(version: Version, folder: Path, sizes: Sizes) -> Measures:
    """How soon a thousand watchers are told."""
    with open_installation(version, folder) as installation:
        found = trio.run(
            told, installation.stage, installation.gateway.pid, sizes.watchers, sizes.watched
        )
    return {"watch.p50": found.median_ms, "watch.p99": found.p99_ms}
