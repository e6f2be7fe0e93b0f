"""The line to the server: messages are taken out of it, and nats-py gets the rest."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import Any

import nats.errors
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nats.aio.client import Client
from nats.aio.transport import TcpTransport
from structlog.testing import capture_logs

from pyoco_server.jetstream.line import Line
from pyoco_server.jetstream.outbox import Feed, Outgoing
from pyoco_server.jetstream.requests import RawMessage

TOKEN = st.text("abcXYZ019-_$", min_size=1, max_size=6)


class Theirs(asyncio.Protocol):
    """Stands in for nats-py's side."""

    def __init__(self) -> None:
        self.read = b""

    def data_received(self, data: bytes) -> None:
        self.read += data


class Transport:
    def __init__(self) -> None:
        self.protocol: Any = Theirs()
        self.written = b""

    def get_protocol(self) -> Any:
        return self.protocol

    def set_protocol(self, protocol: Any) -> None:
        self.protocol = protocol

    def set_write_buffer_limits(self, *, high: int) -> None:
        pass

    def write(self, data: bytes) -> None:
        self.written += data


def opened(*told: list[RawMessage]) -> tuple[Line, Theirs]:
    """A line with a subscription for each list, numbered from 1."""
    transport = Transport()
    theirs = transport.protocol
    feeds = {
        b"%d" % number: Feed("a", each.append, lambda: None)
        for number, each in enumerate(told, start=1)
    }
    return Line(transport, feeds), theirs


@st.composite
def pieces(draw: st.DrawFn) -> tuple[str, bytes, tuple[Any, ...]]:
    """Something that a server sends: whose it is, its bytes, and what is to be read of it."""
    if draw(st.booleans()):
        line = draw(
            st.sampled_from([b"PING\r\n", b"PONG\r\n", b'INFO {"a": "MSG 1"}\r\n', b"+OK\r\n"])
        )
        return "nats", line, ()
    subject, reply = draw(TOKEN), draw(st.one_of(st.just(""), TOKEN))
    payload = draw(st.binary(max_size=40) | st.sampled_from([b"\r\n", b"MSG a 1 2\r\n"]))
    headers = draw(st.dictionaries(TOKEN, TOKEN, max_size=2))
    made = Outgoing.checked("x", payload, "", headers)
    block = made.head.partition(b"\r\n")[2]
    sizes = f"{len(block)} {made.size}" if headers else str(made.size)
    verb = "HMSG" if headers else "MSG"
    line = f"{verb} {subject} 1 {reply} {sizes}\r\n".encode()
    return "ours", line + block + payload + b"\r\n", (subject, payload, headers, reply)


@given(st.lists(pieces(), max_size=8), st.lists(st.integers(0, 400), max_size=6))
def test_wherever_it_is_cut_each_side_gets_its_own_whole_and_in_order(
    sent: list[tuple[str, bytes, tuple[Any, ...]]], cuts: list[int]
) -> None:
    got: list[RawMessage] = []
    line, theirs = opened(got)
    data = b"".join(raw for _, raw, _ in sent)
    places = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    for begin, end in pairwise(places):
        line.data_received(data[begin:end])
    assert [(each.subject, each.payload, each.headers, each.reply) for each in got] == [
        what for whose, _, what in sent if whose == "ours"
    ]
    assert theirs.read == b"".join(raw for whose, raw, _ in sent if whose == "nats")


@pytest.mark.parametrize(
    "bad",
    [
        b"MSG a 1\r\n",
        b"MSG a 1 b c 2\r\n",
        b"MSG a 1 -2\r\n",
        b"MSG a 1 x\r\n",
        b"HMSG a 1 9 4\r\n",
    ],
)
def test_what_is_no_message_ends_the_connection(bad: bytes) -> None:
    line, _ = opened([])
    with pytest.raises(nats.errors.ProtocolError):
        line.data_received(bad)


def test_a_line_without_an_end_does_not_fill_the_memory() -> None:
    line, _ = opened([])
    line.data_received(bytes(100_000))
    with pytest.raises(nats.errors.ProtocolError):
        line.data_received(bytes(2_000_000))


def test_a_large_message_is_put_together_once() -> None:
    got: list[RawMessage] = []
    line, _ = opened(got)
    payload = bytes(8 * 1024 * 1024)
    data = b"MSG a 1 %d\r\n%s\r\n" % (len(payload), payload)
    for begin in range(0, len(data), 4096):
        line.data_received(data[begin : begin + 4096])
    assert [each.payload for each in got] == [payload]


def test_a_reader_that_fails_takes_nothing_from_the_others() -> None:
    got: list[RawMessage] = []
    line, _ = opened(got)

    def fail(_: RawMessage) -> None:
        raise ZeroDivisionError

    line._feeds = {**line._feeds, b"2": Feed("a", fail, lambda: None)}
    with capture_logs() as logs:
        line.data_received(
            b"MSG a 2 1\r\nx\r\nMSG \xff 1 1\r\nx\r\nMSG a 3 1\r\nx\r\nMSG a 1 1\r\ny\r\n"
        )
    assert [each.payload for each in got] == [b"y"]
    assert [each["event"] for each in logs] == ["a message was not taken"] * 2


@pytest.mark.parametrize(
    ("block", "status", "description"),
    [
        (b"NATS/1.0 404 No Messages\r\n\r\n", 404, "No Messages"),
        (b"NATS/1.0 503\r\n\r\n", 503, ""),
        (
            b"NATS/1.0 408 Request Timeout\r\nNats-Pending-Messages: 1\r\n\r\n",
            408,
            "Request Timeout",
        ),
        (b"NATS/1.0 100 Idle Heartbeat\r\nNats-Last-Consumer: 8\r\n\r\n", 100, "Idle Heartbeat"),
        (b"NATS/1.0 \r\n\r\n", None, ""),
        (b"NATS/1.0\r\nA: b\r\n\r\n", None, ""),
        (b"NATS/1.0 \xff\r\n\r\n", None, ""),
    ],
)
def test_a_status_is_in_the_first_line(block: bytes, status: int | None, description: str) -> None:
    reply = RawMessage("a", b"", block)
    assert (reply.status, reply.description) == (status, description)
    assert RawMessage("a", b"", block, "$JS.ACK.x").status is None


def test_headers_are_read_as_they_are_written_by_anybody() -> None:
    block = b"NATS/1.0\r\nA:b\r\nC: \xc3\xa4 : d \r\nbroken\r\nE: \xff\r\n\r\n"
    assert RawMessage("a", b"x", block).headers == {"A": "b", "C": "ä : d", "E": "\ufffd"}


def test_what_is_private_in_nats_py_is_still_there() -> None:
    """`session` looks at these; a nats-py that has renamed them needs a look at `session` and `line`."""
    client = Client()
    for name in ("_transport", "_reading_task", "_flusher_task"):
        assert hasattr(client, name), f"nats-py's Client has no {name} any more"
    transport: Any = TcpTransport
    assert hasattr(transport(), "_io_writer"), "nats-py's TcpTransport has no _io_writer any more"
