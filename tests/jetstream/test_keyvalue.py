"""Key-value buckets: compare-and-set, markers, expiry, and what a bad moment does to them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
import trio

from nats_fixtures import Connection, Node, connected, eventually, killed, paused
from pyoco_server.jetstream.api import call
from pyoco_server.jetstream.errors import (
    BridgeError,
    InvalidKey,
    KeyNotFound,
    NotFound,
    PayloadTooLarge,
    Unanswered,
    Unavailable,
    WrongRevision,
)
from pyoco_server.jetstream.keyvalue import CaughtUp, Deleted, Entry, KeyValue
from pyoco_server.jetstream.publish import publish_acked
from pyoco_server.jetstream.resources import _bucket


@dataclass
class Place:
    node: Node
    connection: Connection
    bucket: KeyValue


async def make(connection: Connection, name: str, **further: object) -> KeyValue:
    config = {**_bucket(name), **further}
    await call(connection, f"STREAM.CREATE.KV_{name}", config, answer=dict)
    return KeyValue(connection, name)


@pytest.fixture
async def place(nats_node: Node) -> AsyncIterator[Place]:
    async with connected(nats_node) as connection:
        yield Place(nats_node, connection, await make(connection, "b"))


async def test_what_was_written_is_read(place: Place) -> None:
    first = await place.bucket.put("a.b", b"\x00\xff")
    entry = await place.bucket.get("a.b")
    assert (entry.key, entry.value, entry.revision) == ("a.b", b"\x00\xff", first)
    assert await place.bucket.put("a.b", b"") > first
    assert (await place.bucket.get("a.b")).value == b""


async def test_create_takes_place_once(place: Place) -> None:
    bucket = place.bucket
    won = 0

    async def race(number: int) -> None:
        nonlocal won
        try:
            await bucket.create("k", str(number).encode())
        except WrongRevision:
            return
        won += 1

    async with trio.open_nursery() as nursery:
        for number in range(50):
            nursery.start_soon(race, number)
    assert won == 1


async def test_compare_and_set_lets_one_of_many_through_each_time(place: Place) -> None:
    bucket = place.bucket
    await bucket.create("n", b"0")

    async def add_ten() -> None:
        added = 0
        while added < 10:
            entry = await bucket.get("n")
            try:
                await bucket.update("n", str(int(entry.value) + 1).encode(), entry.revision)
            except WrongRevision:
                continue
            added += 1

    async with trio.open_nursery() as nursery:
        for _ in range(8):
            nursery.start_soon(add_ten)
    assert (await bucket.get("n")).value == b"80"


@pytest.mark.parametrize(
    "marker",
    [{"KV-Operation": "DEL"}, {"KV-Operation": "PURGE", "Nats-Rollup": "sub"}],  # ADR-8
    ids=["deleted", "purged"],
)
async def test_a_key_that_is_gone_can_be_created_again(
    place: Place, marker: dict[str, str]
) -> None:
    bucket = place.bucket
    revision = await bucket.put("k", b"1")
    await publish_acked(place.connection, "$KV.b.k", b"", headers=marker)
    with pytest.raises(KeyNotFound):
        await bucket.get("k")
    with pytest.raises(WrongRevision):
        await bucket.update("k", b"2", revision)
    assert await bucket.create("k", b"2") > revision
    assert (await bucket.get("k")).value == b"2"


async def test_delete_with_a_stale_revision_is_refused(place: Place) -> None:
    stale = await place.bucket.put("k", b"1")
    newer = await place.bucket.put("k", b"2")
    with pytest.raises(WrongRevision):
        await place.bucket.delete("k", stale)
    assert (await place.bucket.get("k")).value == b"2"
    await place.bucket.delete("k", newer)
    with pytest.raises(KeyNotFound):
        await place.bucket.get("k")


@pytest.mark.parametrize("marked", [False, True])
async def test_a_key_that_expired_is_gone_and_can_be_created_again(
    place: Place, marked: bool
) -> None:
    """Where markers are left, nats-py 2.16 returns an empty value and cannot create the key."""
    further = {"subject_delete_marker_ttl": 60_000_000_000} if marked else {}
    bucket = await make(place.connection, "lease", **further)
    async with bucket.watch() as events:
        assert await anext(events) == CaughtUp(0)
        revision = await bucket.update("k", b"held", 0, ttl_seconds=2)
        entry = await anext(events)
        assert isinstance(entry, Entry)
        assert entry.value == b"held"
        with pytest.raises(WrongRevision):
            await bucket.create("k", b"mine")

        async def gone() -> bool:
            try:
                await bucket.get("k")
            except KeyNotFound:
                return True
            return False

        await eventually(gone, within=60)
        if marked:
            with trio.fail_after(60):
                event = await anext(events)
            assert isinstance(event, Deleted)
            assert event.key == "k"
        assert await bucket.create("k", b"mine") > revision
        assert (await bucket.get("k")).value == b"mine"


@pytest.mark.parametrize("key", ["", ".", "a.", ".a", "a..b", "a b", "a>", "*", "ä", "a\n"])
async def test_what_cannot_be_a_key_is_never_found(place: Place, key: str) -> None:
    with pytest.raises(InvalidKey):
        await place.bucket.get(key)
    with pytest.raises(KeyNotFound):
        await place.bucket.put(key, b"")


async def test_a_missing_bucket_is_no_missing_key(place: Place) -> None:
    missing = KeyValue(place.connection, "nowhere")
    with pytest.raises(NotFound):
        await missing.get("k")
    with trio.fail_after(60), pytest.raises(Unavailable, match="nobody"):
        await missing.put("k", b"")


async def test_a_value_that_is_too_large_is_refused_and_nothing_is_stored(place: Place) -> None:
    with pytest.raises(PayloadTooLarge):
        await place.bucket.put("k", bytes(2_000_000))
    with pytest.raises(KeyNotFound):
        await place.bucket.get("k")


async def test_a_write_without_an_answer_is_open_and_was_done_once(place: Place) -> None:
    with paused(place.node), pytest.raises(Unanswered):
        await place.bucket.create("k", b"1", within=0.3)

    async def done() -> bool:
        try:
            return (await place.bucket.get("k")).value == b"1"
        except KeyNotFound:
            return False

    await eventually(done)
    with pytest.raises(WrongRevision):
        await place.bucket.create("k", b"2")


async def test_what_was_acknowledged_is_there_after_a_crash(place: Place) -> None:
    written = {}
    async with trio.open_nursery() as nursery:

        async def write() -> None:
            for number in range(10_000):
                try:
                    written[f"k{number}"] = await place.bucket.put(f"k{number}", b"x", within=20)
                except BridgeError:
                    return

        nursery.start_soon(write)
        while len(written) < 200:
            await trio.sleep(0.001)
        await killed(place.node, place.connection)
    for key, revision in list(written.items())[-50:]:

        async def there(key: str = key) -> int:
            try:
                return (await place.bucket.get(key)).revision
            except (Unavailable, NotFound):  # JetStream is starting
                return 0

        assert await eventually(there) == revision


async def test_many_writes_in_flight_share_one_connection(place: Place) -> None:
    done = 0

    async def write(number: int) -> None:
        nonlocal done
        await place.bucket.put(f"k{number}", bytes(1000))
        done += 1

    async with trio.open_nursery() as nursery:
        for number in range(2000):
            nursery.start_soon(write, number)
    assert done == 2000
    assert len(await place.bucket.all()) == 2000


async def test_all_of_an_empty_bucket_is_nothing(place: Place) -> None:
    assert await place.bucket.all() == []
    await place.bucket.put("gone", b"")
    await place.bucket.delete("gone")
    await place.bucket.put("there", b"1")
    assert [each.key for each in await place.bucket.all()] == ["there"]


async def test_the_same_message_id_is_stored_once(place: Place) -> None:
    await call(place.connection, "STREAM.CREATE.S", {"name": "S", "subjects": ["s.>"]}, answer=dict)
    first = await publish_acked(place.connection, "s.a", b"1", msg_id="one")
    again = await publish_acked(place.connection, "s.a", b"1", msg_id="one")
    assert (first.duplicate, again.duplicate) == (False, True)
    assert first.seq == again.seq


async def test_an_answer_that_is_no_acknowledgement_is_unanswered(place: Place) -> None:
    async with place.connection.subscribe("not.a.stream"), trio.open_nursery() as nursery:

        def say(reply: object) -> None:
            nursery.start_soon(place.connection.publish, getattr(reply, "reply", ""), b"hm?")

        feed = place.connection.open_feed("odd", say, lambda: None)
        with pytest.raises(Unanswered, match="not an acknowledgement"):
            await publish_acked(place.connection, "odd", b"")
        place.connection.close_feed(feed)
