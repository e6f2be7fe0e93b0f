"""A watch misses nothing, is quick, and ends at once, whatever happens to servers and connections."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
import trio

from nats_fixtures import Connection, ConnectionOptions, Node, connected, eventually, killed
from pyoco_server.jetstream import follow
from pyoco_server.jetstream.api import call
from pyoco_server.jetstream.connection import open_connection
from pyoco_server.jetstream.consumer import Message
from pyoco_server.jetstream.errors import ApiError, BridgeError, Unanswered
from pyoco_server.jetstream.keyvalue import (
    CaughtUp,
    Deleted,
    Entry,
    KeyValue,
    Reset,
    WatchEvent,
)
from pyoco_server.jetstream.resources import _bucket
from pyoco_server.jetstream.standing import StandingPull
from tcp_proxy import open_proxy


async def make(connection: Connection) -> KeyValue:
    await call(connection, "STREAM.CREATE.KV_b", _bucket("b"), answer=dict)
    return KeyValue(connection, "b")


async def stored(bucket: KeyValue, key: str, value: bytes) -> int:
    """Write, over whatever keeps it from being written for the moment."""

    async def put() -> int:
        try:
            return await bucket.put(key, value, within=60)
        except BridgeError:
            return 0

    revision: int = await eventually(put)
    return revision


async def key_of(events: AsyncIterator[WatchEvent], key: str, within: float = 60) -> WatchEvent:
    """The next event of a key."""
    with trio.fail_after(within):
        async for event in events:
            if isinstance(event, Entry | Deleted) and event.key == key:
                return event
    raise AssertionError("the watch has ended")


async def watchers_of(connection: Connection) -> list[str]:
    listed = await call(connection, "CONSUMER.NAMES.KV_b", answer=dict)
    return list(listed["consumers"] or [])


@pytest.fixture
async def bucket(nats_node: Node) -> AsyncIterator[KeyValue]:
    async with connected(nats_node) as connection:
        yield await make(connection)


async def test_the_present_then_caught_up_then_changes(bucket: KeyValue) -> None:
    await bucket.put("a", b"old")
    a = await bucket.put("a", b"1")
    b = await bucket.put("b", b"2")
    async with bucket.watch() as events:
        with trio.fail_after(60):
            seen = [await anext(events) for _ in range(3)]
            assert [getattr(event, "value", event) for event in seen] == [b"1", b"2", CaughtUp(b)]
            assert [getattr(event, "revision", 0) for event in seen] == [a, b, b]
            await bucket.delete("a")
            assert isinstance(await anext(events), Deleted)
            await bucket.put("c", b"3")
            entry = await anext(events)
    assert isinstance(entry, Entry)
    assert (entry.key, entry.value) == ("c", b"3")


async def test_a_consumer_that_is_lost_before_it_gave_anything_is_no_new_beginning(
    bucket: KeyValue, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bucket.put("a", b"1")
    take, lost = StandingPull.take, [True]

    async def lose_first(self: StandingPull) -> Sequence[Message]:
        if lost:
            lost.clear()
            raise ApiError(404, 0, "consumer does not answer")
        return await take(self)

    monkeypatch.setattr(StandingPull, "take", lose_first)
    async with bucket.watch() as events:
        with trio.fail_after(60):
            assert getattr(await anext(events), "value", None) == b"1"
    assert not lost


async def test_behind_the_last_revision_only_what_comes(bucket: KeyValue) -> None:
    last = await bucket.put("a", b"1")
    async with bucket.watch(since=last) as events:
        with trio.fail_after(60):
            assert await anext(events) == CaughtUp(last)
            await bucket.put("b", b"2")
            assert getattr(await anext(events), "key", None) == "b"


async def test_behind_a_revision_and_by_pattern(bucket: KeyValue) -> None:
    await bucket.put("x.1", b"")
    since = await bucket.put("x.2", b"")
    await bucket.put("y.3", b"")
    await bucket.put("x.4", b"")
    async with bucket.watch("x.*", since=since) as events:
        with trio.fail_after(60):
            assert getattr(await anext(events), "key", None) == "x.4"
            assert isinstance(await anext(events), CaughtUp)


async def test_a_server_that_was_killed_delays_a_change_by_a_moment(
    nats_node: Node, bucket: KeyValue
) -> None:
    await bucket.put("k", b"before")
    async with connected(nats_node) as watching, KeyValue(watching, "b").watch() as events:
        await key_of(events, "k")
        for number in range(3):
            await killed(nats_node, watching)
            await stored(bucket, "k", str(number).encode())
            # nats-py's own watch took 18 s here
            event = await key_of(events, "k", within=15)
            assert isinstance(event, Entry)
            assert event.value == str(number).encode()


async def test_nothing_is_missed_while_connections_are_cut(
    nats_node: Node, bucket: KeyValue
) -> None:
    last: dict[str, int] = {}
    seen: dict[str, int] = {}
    async with open_proxy(nats_node.port) as proxy:
        options = ConnectionOptions(urls=(proxy.nats_url,))
        async with (
            open_connection(options) as watching,
            KeyValue(watching, "b").watch() as events,
            trio.open_nursery() as nursery,
        ):
            written = False

            async def cut() -> None:
                # A busy machine may take longer for a connection than one lasts, so not for good.
                while not written:
                    await trio.sleep(random.uniform(0.02, 0.3))
                    proxy.cut()

            async def write() -> None:
                nonlocal written
                for number in range(1500):
                    key = f"k{number % 40}"
                    last[key] = await bucket.put(key, b"x")
                written = True

            nursery.start_soon(cut)
            nursery.start_soon(write)
            with trio.fail_after(60):
                async for event in events:
                    if isinstance(event, Entry):
                        assert event.revision > seen.get(event.key, 0), "in order, none twice"
                        seen[event.key] = event.revision
                        if event.revision == 1500:
                            break
            nursery.cancel_scope.cancel()
    assert seen == last


async def test_a_consumer_that_was_deleted_is_made_anew(bucket: KeyValue) -> None:
    connection = bucket._connection
    await bucket.put("k", b"1")
    async with bucket.watch() as events:
        await key_of(events, "k")
        async with trio.open_nursery() as nursery:

            async def delete() -> None:
                (name,) = await watchers_of(connection)
                where = f"CONSUMER.INFO.KV_b.{name}"

                async def pulled() -> int:
                    info = await call(connection, where, answer=dict)
                    return int(info["num_waiting"])

                await eventually(pulled)
                await call(connection, f"CONSUMER.DELETE.KV_b.{name}", answer=dict)
                await bucket.put("k", b"2")

            nursery.start_soon(delete)
            event = await key_of(events, "k")
    assert getattr(event, "value", None) == b"2"


async def test_a_bucket_made_anew_is_told_and_read_from_its_beginning(bucket: KeyValue) -> None:
    connection = bucket._connection
    for _ in range(3):
        await bucket.put("old", b"")
    async with bucket.watch() as events:
        await key_of(events, "old")
        assert isinstance(await anext(events), CaughtUp)
        await call(connection, "STREAM.DELETE.KV_b", answer=dict)
        await make(connection)
        # More than before: sequences alone do not tell.
        for number in range(5):
            await bucket.put(f"new{number}", b"")
        with trio.fail_after(60):
            assert isinstance(await anext(events), Reset)
            told: list[WatchEvent] = []
            while len(keys := [each.key for each in told if isinstance(each, Entry)]) < 5:
                told.append(await anext(events))
            assert keys == [f"new{number}" for number in range(5)]
            # It may have found the new one before all of them were there.
            if not any(isinstance(each, CaughtUp) for each in told):
                assert await anext(events) == CaughtUp(5)


async def test_a_bucket_made_anew_is_told_where_the_first_attempt_to_read_it_fails(
    bucket: KeyValue, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = bucket._connection
    failed: list[str] = []

    async def fail_once(connection: Connection, what: str, *args: Any, **options: Any) -> Any:
        if what.startswith("CONSUMER.CREATE.") and not failed:
            failed.append(what)
            raise Unanswered("lost on the way")
        return await call(connection, what, *args, **options)

    async def there(_: int) -> bool:
        return True

    since = await bucket.put("old", b"")
    with trio.fail_after(60):
        async with bucket.watch_batches() as batches:
            before = await anext(batches)
        await call(connection, "STREAM.DELETE.KV_b", answer=dict)
        await make(connection)
        monkeypatch.setattr(follow, "call", fail_once)
        async with bucket.watch_batches(
            since=since, identity=before.identity, holds=there
        ) as batches:
            batch = await anext(batches)
    assert failed
    assert batch.anew
    assert batch.identity != before.identity


async def test_a_wiped_store_is_noticed_from_a_revision_of_another_life(bucket: KeyValue) -> None:
    await bucket.put("k", b"")
    async with bucket.watch(since=1000) as events:
        with trio.fail_after(60):
            assert isinstance(await anext(events), Reset)
            assert getattr(await anext(events), "key", None) == "k"
            assert await anext(events) == CaughtUp(1)


@pytest.mark.parametrize("how", ["expired", "removed without a marker"])
async def test_only_what_has_not_expired_is_missed(nats_node: Node, how: str) -> None:
    async with connected(nats_node) as connection:
        config = _bucket("b") | {"max_age": 3 * 10**9 if how == "expired" else 3600 * 10**9}
        await call(connection, "STREAM.CREATE.KV_b", config | {"duplicate_window": 0}, answer=dict)
        bucket = KeyValue(connection, "b")
        await bucket.put("gone", b"")
        async with bucket.watch() as events:
            await key_of(events, "gone")
            if how != "expired":
                await bucket.forget("gone")
            while await bucket.newest("gone"):
                await trio.sleep(0.02)
            await bucket.put("next", b"")
            await key_of(events, "next")
            (name,) = await watchers_of(connection)
            await call(connection, f"CONSUMER.DELETE.KV_b.{name}", answer=dict)
            await bucket.put("last", b"")
            with trio.fail_after(60):
                seen = [event async for event in until_key(events, "last")]
        assert any(isinstance(event, Reset) for event in seen) == (how != "expired")


async def until_key(events: AsyncIterator[WatchEvent], key: str) -> AsyncIterator[WatchEvent]:
    async for event in events:
        yield event
        if getattr(event, "key", None) == key:
            return


async def test_a_watch_waits_for_a_bucket_that_comes_later(nats_node: Node) -> None:
    async with (
        connected(nats_node) as connection,
        KeyValue(connection, "b").watch() as events,
        trio.open_nursery() as nursery,
    ):

        async def make_it() -> None:
            await trio.sleep(0.3)
            await (await make(connection)).put("k", b"")

        nursery.start_soon(make_it)
        await key_of(events, "k")


async def test_a_slow_reader_gets_everything_and_holds_up_nobody(bucket: KeyValue) -> None:
    async with bucket.watch() as slow, bucket.watch() as quick:
        for number in range(1200):
            await bucket.put(f"k{number}", bytes(100))
        for number in range(1200):
            await key_of(quick, f"k{number}")
        for number in range(1200):
            await key_of(slow, f"k{number}")


async def test_a_watch_that_ended_leaves_no_consumer(bucket: KeyValue) -> None:
    connection = bucket._connection
    await bucket.put("k", b"")
    for _ in range(5):
        with trio.CancelScope() as scope:
            async with bucket.watch() as events:
                async for event in events:
                    if isinstance(event, CaughtUp):
                        scope.cancel()
        await bucket.all()

    async def none() -> bool:
        return await watchers_of(connection) == []

    await eventually(none)


async def test_a_watch_is_cancelled_at_once_while_nats_is_away(nats_node: Node) -> None:
    async with (
        open_proxy(nats_node.port) as proxy,
        open_connection(ConnectionOptions(urls=(proxy.nats_url,))) as connection,
    ):
        await connection.wait_connected(within=60)
        await make(connection)
        with proxy.down(), trio.move_on_after(0.5) as scope:
            async with KeyValue(connection, "b").watch() as events:
                async for _ in events:
                    pass
        assert scope.cancelled_caught
        assert trio.current_time() - scope.deadline < 20
