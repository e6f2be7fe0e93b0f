"""Batches of messages: stored whole, in their order, or not at all."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from nats_fixtures import Connection, Node, connected
from pyoco_server.jetstream.api import call
from pyoco_server.jetstream.errors import BatchRefused, PayloadTooLarge
from pyoco_server.jetstream.inventory import stream_state
from pyoco_server.jetstream.publish import (
    Publication,
    publish_acked,
    publish_batch,
    takes_batches,
)
from pyoco_server.jetstream.resources import _stream
from pyoco_server.jetstream.stored import get_message


@pytest.fixture
async def connection(nats_node: Node) -> AsyncIterator[Connection]:
    async with connected(nats_node) as opened:
        for name, atomic in (("NEW", True), ("OLD", False)):
            config = _stream(name, [f"{name.lower()}.>"], allow_atomic=atomic)
            await call(opened, f"STREAM.CREATE.{name}", config, answer=dict)
        yield opened


async def stored(connection: Connection) -> int:
    return (await stream_state(connection, "NEW")).messages


async def test_a_batch_is_stored_in_its_order(connection: Connection) -> None:
    await publish_acked(connection, "new.first", b"")
    messages = [Publication(f"new.{n}", str(n).encode()) for n in range(1000)]
    sequences = await publish_batch(connection, messages)
    assert sequences == range(2, 1002)
    for number in (0, 499, 999):
        found = await get_message(connection, "NEW", sequences[number])
        assert found is not None
        assert (found.subject, found.data) == (f"new.{number}", str(number).encode())


async def test_one_message_that_may_not_be_stored_keeps_the_others_out(
    connection: Connection,
) -> None:
    await publish_acked(connection, "new.a", b"", msg_id="a")
    fresh = Publication("new.b", b"", msg_id="b", expected_last_subject_sequence=0)
    for wrong in (
        Publication("new.a", b"", expected_last_subject_sequence=0),
        Publication("new.c", b"", msg_id="a"),
    ):
        for messages in ([fresh, wrong], [wrong, fresh]):
            with pytest.raises(BatchRefused) as refused:
                await publish_batch(connection, messages)
            assert not refused.value.lasting
    assert await stored(connection) == 1
    assert len(await publish_batch(connection, [fresh])) == 1


async def test_a_message_of_a_batch_is_no_second_one_when_it_is_sent_by_itself(
    connection: Connection,
) -> None:
    sequences = await publish_batch(
        connection, [Publication("new.a", b"", msg_id="a"), Publication("new.b", b"", msg_id="b")]
    )
    ack = await publish_acked(connection, "new.a", b"", msg_id="a")
    assert (ack.seq, ack.duplicate) == (sequences[0], True)
    assert await stored(connection) == 2


async def test_a_stream_without_batches_takes_none_of_it(connection: Connection) -> None:
    with pytest.raises(BatchRefused, match="disabled") as refused:
        await publish_batch(connection, [Publication("old.a", b""), Publication("old.b", b"")])
    assert refused.value.lasting
    assert (await stream_state(connection, "OLD")).messages == 0


async def test_a_batch_with_a_message_that_is_too_large_is_not_begun(
    connection: Connection,
) -> None:
    large = Publication("new.b", b"x" * 2 * 1024 * 1024)
    for _ in range(60):  # of which 50 may be open
        with pytest.raises(PayloadTooLarge):
            await publish_batch(connection, [Publication("new.a", b""), large])
    assert len(await publish_batch(connection, [Publication("new.a", b"")] * 2)) == 2


@pytest.mark.parametrize(
    ("version", "takes"),
    [(None, False), ("2.9.25", False), ("2.11.10", False), ("2.12.0", True), ("2.15.1", True)],
)
def test_servers_before_2_12_take_no_batches(version: str | None, takes: bool) -> None:
    assert takes_batches(version) is takes
