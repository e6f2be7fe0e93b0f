"""What is let through to the protocol, and what requests and replies look like: the pure parts."""

from __future__ import annotations

import math

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from pyoco_server.jetstream.consumer import Delivery
from pyoco_server.jetstream.errors import Malformed
from pyoco_server.jetstream.outbox import _LIMIT_BYTES, Feed, Outbox, Outgoing
from pyoco_server.jetstream.requests import PendingRequests, RawMessage

TOKEN = st.text("abcXYZ019-_=/$", min_size=1, max_size=8)
SUBJECT = st.lists(TOKEN, min_size=1, max_size=6).map(".".join)


@given(SUBJECT, st.binary(max_size=50), st.dictionaries(TOKEN.filter(str.isalnum), TOKEN))
def test_what_is_well_formed_passes_with_its_size_on_the_wire(
    subject: str, payload: bytes, headers: dict[str, str]
) -> None:
    made = Outgoing.checked(subject, payload, "", headers)
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    frame = f"NATS/1.0\r\n{lines}\r\n".encode() if headers else b""
    assert made.size == len(frame) + len(payload)


@settings(max_examples=30)
@given(st.text(max_size=20), st.sampled_from(list("\r\n\t \0\x1f\x7f")), st.text(max_size=20))
def test_no_subject_breaks_out_of_its_line(before: str, bad: str, behind: str) -> None:
    for arguments in ((before + bad + behind, b"", "", None), ("ok", b"", before + bad, None)):
        with pytest.raises(Malformed):
            Outgoing.checked(*arguments)


@given(st.text(), st.text())
def test_a_header_is_one_line_or_refused(name: str, value: str) -> None:
    try:
        Outgoing.checked("a", b"", "", {name: value})
    except Malformed:
        return
    assert name
    assert not set("\r\n\0: ") & set(name)
    assert not set("\r\n\0") & set(value)


@pytest.mark.parametrize("subject", ["", ".", "a.", ".a", "a..b", "a b", ">.a", "a.>.b"])
def test_what_is_no_pattern_is_refused(subject: str) -> None:
    with pytest.raises(Malformed):
        Feed(subject, lambda _: None, lambda: None)


@given(st.lists(st.binary(max_size=100), max_size=30))
def test_an_outbox_gives_what_was_put_in_its_order(payloads: list[bytes]) -> None:
    outbox = Outbox()
    for payload in payloads:
        outbox.put(Outgoing.checked("a", payload, "", None))
    taken = []
    while (item := outbox.take()) is not None:
        assert isinstance(item, Outgoing)
        taken.append(item.payload)
    assert taken == payloads
    assert not outbox.full


@given(st.lists(st.integers(0, _LIMIT_BYTES // 2), min_size=1, max_size=8))
def test_an_outbox_is_full_by_bytes_and_has_room_again(sizes: list[int]) -> None:
    outbox = Outbox()
    buffer = bytes(_LIMIT_BYTES // 2)
    for size in sizes:
        outbox.put(Outgoing.checked("a", buffer[:size], "", None))
    assert outbox.full >= (sum(sizes) >= _LIMIT_BYTES)
    outbox.clear()
    assert not outbox.full
    assert outbox.take() is None


async def test_who_waits_for_room_goes_on_once_there_is() -> None:
    outbox, woken = Outbox(), trio.Event()
    half = Outgoing.checked("a", bytes(_LIMIT_BYTES // 2), "", None)
    for _ in range(3):
        outbox.put(half)

    async def wait() -> None:
        await outbox.room()
        woken.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        for has_room in (False, True):
            await trio.testing.wait_all_tasks_blocked()
            assert not woken.is_set()
            outbox.take()
            assert outbox.full is not has_room
        with trio.fail_after(10):
            await woken.wait()


@given(
    st.integers(1, 99),
    st.integers(1, 2**40),
    st.integers(1, 2**40),
    st.integers(10**18, 2 * 10**18),
    st.integers(0, 2**40),
    st.sampled_from(["", "domain.account.", "_.ACCOUNT."]),
    st.sampled_from(["", ".random"]),
)
def test_the_ack_subject_is_read_in_both_its_forms(
    delivered: int, stream: int, consumer: int, at: int, pending: int, head: str, tail: str
) -> None:
    if not head:
        tail = ""
    subject = f"$JS.ACK.{head}S.C.{delivered}.{stream}.{consumer}.{at}.{pending}{tail}"
    read = Delivery.parse(subject)
    assert (read.num_delivered, read.stream_sequence, read.consumer_sequence, read.pending) == (
        delivered,
        stream,
        consumer,
        pending,
    )
    assert read.timestamp == pytest.approx(at / 1e9)


def test_only_a_bare_message_is_a_status() -> None:
    status = {"Status": "404", "Description": "No Messages"}
    assert RawMessage("a", b"", status).status == 404
    assert RawMessage("a", b"", status).description == "No Messages"
    assert RawMessage("a", b"data", status).status is None, "a stored message with such a header"
    assert RawMessage("a", b"", status, reply="$JS.ACK.x").status is None
    assert RawMessage("a", b"", {"Status": "soon"}).status is None
    assert RawMessage("a", b"", "NATS/1.0 \N{SUPERSCRIPT TWO}".encode()).status is None


async def test_replies_go_to_whoever_waits_and_nowhere_else() -> None:
    pending = PendingRequests("_INBOX.me")
    first, one = pending.open(math.inf)
    second, two = pending.open(math.inf)
    pending.deliver(RawMessage(second, b"2"))
    pending.deliver(RawMessage(first, b"1"))
    pending.deliver(RawMessage("_INBOX.me.unknown", b"?"))
    for waiter, payload in ((one, b"1"), (two, b"2")):
        reply = await waiter.next()
        assert reply is not None
        assert reply.payload == payload
    pending.close(first)
    pending.deliver(RawMessage(first, b"late"))
    pending.lose_all()
    assert await two.next() is None
    assert not one.replies
    assert not one.lost


async def test_each_wait_ends_at_its_own_deadline(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    pending = PendingRequests("_INBOX.me")
    nursery.start_soon(pending.keep_deadlines)
    began = trio.current_time()

    async def wait(after: float, within: float) -> None:
        await trio.sleep(after)
        _, waiter = pending.open(trio.current_time() + within)
        assert await waiter.next() is None
        assert not waiter.lost
        ends[after + within] = trio.current_time() - began

    ends: dict[float, float] = {}
    async with trio.open_nursery() as waits:
        for after, within in ((0, 5), (0, 2), (1, 5), (3, 0.5), (3, 0.25), (20, 1), (20, 0)):
            waits.start_soon(wait, after, within)
    assert len(ends) == 7
    assert all(at == due for due, at in ends.items()), ends
