"""Watchers of runs by the hundred: raw sockets, so that the side that is measured is the gateway."""

from __future__ import annotations

import socket
import time
from dataclasses import dataclass, field
from typing import Any

import msgspec
import trio

from http_api.seeding import snapshot
from pyoco_server.jetstream.keyvalue import KeyValue


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
            f"GET /runs/{run_id}/watch?timeout_sec=600 HTTP/1.1\r\nHost: gateway\r\n\r\n".encode()
        )


async def write(bucket: KeyValue, run_id: str, mark: str = "", **changes: Any) -> None:
    """Store a state of a run that carries a mark."""
    state = snapshot(run_id, status="RUNNING", error=mark or None, **changes)
    await bucket.put(run_id, msgspec.json.encode(state), within=30)
