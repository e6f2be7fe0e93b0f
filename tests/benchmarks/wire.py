"""HTTP/1.1 over bare sockets that are kept: as cheap as a client can be, so that the server is measured."""

from __future__ import annotations

import re
import select
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final, Self

_LENGTH: Final = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")
_COMPLETED: Final = re.compile(rb'"status": ?"COMPLETED"')
_READ_BYTES: Final = 1 << 18


class Failed(Exception):
    """An answer was not 200, or the connection was closed."""


def get(path: str) -> bytes:
    """A request for a page."""
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()


def post(path: str, body: bytes, kind: str = "application/json") -> bytes:
    """A request that submits something."""
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def opened(port: int) -> socket.socket:
    """A connection that sends at once what it is given."""
    connection = socket.create_connection(("127.0.0.1", port), 60)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


@dataclass
class Wire:
    """A connection to a gateway, for one request after the other."""

    port: int
    socket: socket.socket = field(init=False)

    def __post_init__(self) -> None:
        self.socket = opened(self.port)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def ask(self, request: bytes) -> bytes:
        """Send a request and return the body of the answer.

        Raises:
            Failed: It is no 200, or has no length.
        """
        self.socket.sendall(request)
        pieces = [b""]
        while b"\r\n\r\n" not in pieces[0]:
            pieces[0] += self._piece()
        missing = -_surplus(pieces[0])
        while missing > 0:
            pieces.append(self._piece())
            missing -= len(pieces[-1])
        return b"".join(pieces).partition(b"\r\n\r\n")[2]

    def _piece(self) -> bytes:
        piece = self.socket.recv(_READ_BYTES)
        if not piece:
            raise Failed("the connection was closed")
        return piece


def _surplus(answer: bytes) -> int:
    """How many bytes an answer, whose head has come, has more than it needs; below nought, it has less.

    Raises:
        Failed: It is no 200, or has no length.
    """
    head, _, body = answer.partition(b"\r\n\r\n")
    length = _LENGTH.search(head)
    if length is None or not head.startswith(b"HTTP/1.1 200"):
        raise Failed(answer)
    return len(body) - int(length[1])


def one_by_one(port: int, request: bytes, count: int) -> list[float]:
    """How many seconds each of so many requests takes, over one connection."""
    took = []
    with Wire(port) as wire:
        for _ in range(count):
            began = time.perf_counter()
            wire.ask(request)
            took.append(time.perf_counter() - began)
    return took


def all_at_once(port: int, request: bytes, count: int, clients: int) -> float:
    """How many requests a second are answered while so many clients ask without a pause."""
    poll = select.epoll()
    wires = [Wire(port) for _ in range(clients)]
    by_number = {wire.socket.fileno(): wire for wire in wires}
    answers = dict.fromkeys(by_number, b"")
    try:
        began = time.perf_counter()
        for wire in wires:
            poll.register(wire.socket.fileno(), select.EPOLLIN)
            wire.socket.sendall(request)
        sent, done = clients, 0
        while done < count:
            for number, _ in poll.poll(60):
                wire = by_number[number]
                piece = wire.socket.recv(_READ_BYTES)
                if not piece:
                    raise Failed(answers[number])
                answers[number] += piece
                if b"\r\n\r\n" not in answers[number] or _surplus(answers[number]) < 0:
                    continue
                answers[number] = b""
                done += 1
                if sent < count:
                    sent += 1
                    wire.socket.sendall(request)
        return count / (time.perf_counter() - began)
    finally:
        poll.close()
        for wire in wires:
            wire.socket.close()


def until_watched(connection: socket.socket, run_id: str) -> None:
    """Read the events of a run, over a connection for them alone, until it is COMPLETED.

    Raises:
        TimeoutError: It is not, within the connection's timeout.
        Failed: The events ended.
    """
    connection.sendall(get(f"/runs/{run_id}/watch?timeout_sec=60"))
    seen = b""
    while not _COMPLETED.search(seen):
        piece = connection.recv(_READ_BYTES)
        if not piece:
            raise Failed(seen)
        seen += piece


def until_polled(wire: Wire, run_id: str, *, pause: float, within: float) -> None:
    """Ask for a run again and again until it is COMPLETED.

    Raises:
        TimeoutError: It is not, within so many seconds.
    """
    deadline = time.monotonic() + within
    request = get(f"/runs/{run_id}")
    while not _COMPLETED.search(wire.ask(request)):
        if time.monotonic() > deadline:
            raise TimeoutError(run_id)
        time.sleep(pause)


@contextmanager
def client_work() -> Iterator[list[float]]:
    """Measure the processor time of this process in the block; the list gets it, in seconds."""
    work: list[float] = []
    began = time.process_time()
    try:
        yield work
    finally:
        work.append(time.process_time() - began)
