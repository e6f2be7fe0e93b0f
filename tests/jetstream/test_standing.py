"""Standing pulls: no request for a message, no more than there is room for, together what comes together."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any
from unittest.mock import MagicMock

import pytest
import trio
import trio.testing

from jetstream.test_costs import Count
from nats_fixtures import Connection, ConnectionOptions, Node, connected, eventually
from pyoco_server.jetstream import standing
from pyoco_server.jetstream.api import call
from pyoco_server.jetstream.connection import open_connection
from pyoco_server.jetstream.errors import ApiError, NotFound, Unanswered, Unavailable
from pyoco_server.jetstream.follow import CaughtUp, Follower
from pyoco_server.jetstream.publish import publish_acked
from pyoco_server.jetstream.requests import RawMessage
from pyoco_server.jetstream.standing import StandingPull
from tcp_proxy import open_proxy


async def make(connection: Connection, **config: Any) -> None:
    """A stream with a consumer that acknowledges nothing."""
    await call(connection, "STREAM.CREATE.S", {"name": "S", "subjects": ["s"]}, answer=dict)
    body = {"durable_name": "w", "name": "w", "ack_policy": "none", **config}
    await call(
        connection,
        "CONSUMER.CREATE.S.w",
        {"stream_name": "S", "config": body, "action": "create"},
        answer=dict,
    )


async def store(connection: Connection, *payloads: bytes) -> None:
    for payload in payloads:
        await publish_acked(connection, "s", payload, within=60)


async def taken(pull: StandingPull, number: int, within: float = 60) -> list[bytes]:
    got: list[bytes] = []
    with trio.fail_after(within):
        while len(got) < number:
            got += [each.data for each in await pull.take()]
    return got


async def true(what: object) -> bool:
    return bool(what)


async def waiting(connection: Connection) -> int:
    return int((await call(connection, "CONSUMER.INFO.S.w", answer=dict))["num_waiting"])


@pytest.fixture
async def connection(nats_node: Node) -> AsyncIterator[Connection]:
    async with connected(nats_node) as connection:
        await make(connection)
        yield connection


async def test_what_is_there_and_what_comes_by_one_pull(connection: Connection) -> None:
    await store(connection, b"1", b"2")
    pull = StandingPull(connection, "S", "w", batch=100)
    assert await taken(pull, 2) == [b"1", b"2"]
    for number in range(20):
        await store(connection, b"%d" % number)
        assert await taken(pull, 1) == [b"%d" % number]
    assert pull._left == 100 - 22, "all by the first pull"


async def test_a_cancelled_taker_loses_nothing(connection: Connection) -> None:
    pull = StandingPull(connection, "S", "w", batch=10)
    with trio.move_on_after(0.2):
        await pull.take()
    await store(connection, b"late")
    await trio.testing.wait_all_tasks_blocked(0.1)
    assert await taken(pull, 1) == [b"late"]


async def test_who_does_not_take_is_sent_no_more_than_one_pull(connection: Connection) -> None:
    pull = StandingPull(connection, "S", "w", batch=5)
    await store(connection, *(b"%d" % number for number in range(23)))
    first = await taken(pull, 1)

    async def left() -> int:
        return int((await call(connection, "CONSUMER.INFO.S.w", answer=dict))["num_pending"])

    async def heard() -> bool:
        """The consumer hears of a message behind the publish's ack."""
        return await left() == 18

    await eventually(heard)
    await trio.testing.wait_all_tasks_blocked(0.1)
    assert await left() == 18
    rest = await taken(pull, 23 - len(first))
    assert first + rest == [b"%d" % number for number in range(23)]


async def test_a_pull_that_expires_is_followed_by_the_next(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(standing, "EXPIRES_SECONDS", 0.2)
    pull = StandingPull(connection, "S", "w", batch=5)
    with trio.fail_after(60):
        assert [await pull.take() for _ in range(3)] == [(), (), ()]
    await store(connection, b"1")
    assert await taken(pull, 1) == [b"1"]


async def test_a_server_without_a_last_word_is_asked_again(
    nats_node: Node, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(standing, "EXPIRES_SECONDS", 0.2)
    monkeypatch.setattr(standing, "LATE_SECONDS", 0.1)
    async with (
        open_proxy(nats_node.port) as proxy,
        open_connection(ConnectionOptions(urls=(proxy.nats_url,))) as own,
    ):
        await own.wait_connected(within=60)
        pull = StandingPull(own, "S", "w", batch=5)
        with proxy.held("down"), trio.fail_after(60):
            assert await pull.take() == ()
            with trio.move_on_after(0.2):
                assert await pull.take() == ()
        await store(connection, b"1")
        assert await taken(pull, 1) == [b"1"]


async def test_a_consumer_that_says_nothing_twice_is_told(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """As that of a node of a cluster that hangs, while the connection is to another one."""
    pull = StandingPull(MagicMock(), "S", "w", batch=5)
    assert await pull.take() == ()
    for _ in range(2):
        with pytest.raises(Unanswered, match="does not answer"):
            await pull.take()
    # One that is late with its word is only slow.
    pull._deliver(RawMessage("the first pull's", b"", {"Status": "408"}))
    assert await pull.take() == ()
    with pytest.raises(Unanswered):
        await pull.take()


async def test_a_consumer_that_is_deleted_is_told_at_once(connection: Connection) -> None:
    pull = StandingPull(connection, "S", "w", batch=5)

    async def delete() -> None:
        await eventually(lambda: waiting(connection))
        await call(connection, "CONSUMER.DELETE.S.w", answer=dict)

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(delete)
            with pytest.raises(NotFound, match="was deleted"):
                await pull.take()
        with pytest.raises(NotFound, match="does not answer"):
            await pull.take()


async def test_a_refusal_is_told_and_no_end_of_a_pull(nats_node: Node) -> None:
    async with connected(nats_node) as connection:
        await make(connection, max_waiting=1)
        first, second = (StandingPull(connection, "S", "w", batch=5) for _ in range(2))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(first.take)
            await eventually(lambda: waiting(connection))
            with trio.fail_after(60), pytest.raises(ApiError, match="MaxWaiting"):
                await second.take()
            nursery.cancel_scope.cancel()


async def test_a_connection_that_breaks_is_told_at_once_and_what_came_is_handed_out(
    nats_node: Node, connection: Connection
) -> None:
    async with (
        open_proxy(nats_node.port) as proxy,
        open_connection(ConnectionOptions(urls=(proxy.nats_url,))) as own,
    ):
        await own.wait_connected(within=60)
        pull = StandingPull(own, "S", "w", batch=5)
        with trio.move_on_after(0.1):
            await pull.take()
        await store(connection, b"1")
        await eventually(lambda: true(pull._arrived))
        proxy.cut()
        with trio.fail_after(60):
            assert await taken(pull, 1) == [b"1"]
            with pytest.raises(Unavailable):
                await pull.take()


async def test_what_comes_fast_is_taken_together_and_what_comes_slowly_at_once(
    connection: Connection,
) -> None:
    pull = StandingPull(connection, "S", "w", batch=512)
    count = Count()
    sizes: list[int] = []
    total = 3000

    async def fast() -> None:
        async with trio.open_nursery() as nursery:
            for number in range(10):
                nursery.start_soon(store, connection, *([b"%d" % number] * (total // 10)))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(fast)
        began = trio.current_time()
        with trio.fail_after(60):
            while sum(sizes) < total:
                sizes.append(len(await pull.take()))
        took = trio.current_time() - began
    assert len(sizes) <= took / standing._GATHER_SECONDS + total / 512 + 60, "one each 5 ms"

    await trio.sleep(0.2)  # calm again
    trio.lowlevel.add_instrument(count)
    for number in range(20):
        await store(connection, b"%d" % number)
        assert await taken(pull, 1) == [b"%d" % number]
        assert not pull._busy
    trio.lowlevel.remove_instrument(count)
    # Its publish costs two, the message that comes two more.
    assert count.steps <= 20 * 6


async def test_a_follower_reads_on_behind_a_message_that_was_lost(connection: Connection) -> None:
    follower = Follower(connection, "S", "s")
    got: list[object] = []
    async with aclosing(follower.messages()) as messages, trio.open_nursery() as nursery:

        async def read() -> None:
            async for message in messages:
                got.append(getattr(message, "data", message))  # noqa: PERF401 - seen as it grows

        nursery.start_soon(read)
        await eventually(lambda: true(follower._consumer and follower._consumer._left))
        pull = follower._consumer
        assert pull is not None
        lost: list[RawMessage] = []
        object.__setattr__(pull._feed, "deliver", lost.append)
        await store(connection, b"1")
        await eventually(lambda: true(lost))
        object.__setattr__(pull._feed, "deliver", pull._deliver)
        await store(connection, b"2")
        await eventually(lambda: true(len(got) >= 3))
        assert got == [CaughtUp(0), b"1", b"2"]
        nursery.cancel_scope.cancel()


async def test_a_follower_leaves_a_consumer_that_says_nothing_any_more(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As that of a node of a cluster that hangs, while the connection is to another one."""
    monkeypatch.setattr(standing, "EXPIRES_SECONDS", 0.2)
    monkeypatch.setattr(standing, "LATE_SECONDS", 0.1)
    follower = Follower(connection, "S", "s")
    async with aclosing(follower.messages()) as messages:
        with trio.fail_after(60):
            assert await anext(messages) == CaughtUp(0)
            lost: list[RawMessage] = []

            async def lose() -> None:
                await eventually(lambda: true(follower._consumer and follower._consumer._left))
                pull = follower._consumer
                assert pull is not None
                object.__setattr__(pull._feed, "deliver", lost.append)
                await store(connection, b"1", b"2")

            async with trio.open_nursery() as nursery:
                nursery.start_soon(lose)
                got = [getattr(await anext(messages), "data", None) for _ in range(2)]
    assert got == [b"1", b"2"]
    assert lost


async def test_a_follower_has_not_caught_up_while_the_last_message_is_lost(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store(connection, b"1", b"2", b"3")
    lost: list[RawMessage] = []
    deliver = StandingPull._deliver

    def lose_the_last_once(pull: StandingPull, reply: RawMessage) -> None:
        if reply.payload == b"3" and not lost:
            lost.append(reply)
        else:
            deliver(pull, reply)

    monkeypatch.setattr(StandingPull, "_deliver", lose_the_last_once)
    monkeypatch.setattr(standing, "EXPIRES_SECONDS", 0.2)
    async with aclosing(Follower(connection, "S", "s").messages()) as messages:
        with trio.fail_after(60):
            got = [getattr(message := await anext(messages), "data", message) for _ in range(4)]
    assert got == [b"1", b"2", b"3", CaughtUp(3)]
    assert lost
