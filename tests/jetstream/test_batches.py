"""Following a bucket by the batch, over restarts of the reader and of the bucket."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import trio

from nats_fixtures import Connection, connected, node_in
from pyoco_server.jetstream.api import call
from pyoco_server.jetstream.keyvalue import Batch, Deleted, Entry, KeyValue


async def make_bucket(connection: Connection) -> KeyValue:
    config: dict[str, Any] = {
        "name": "KV_b",
        "subjects": ["$KV.b.>"],
        "max_msgs_per_subject": 1,
        "storage": "memory",
        "allow_msg_ttl": True,
        "allow_rollup_hdrs": True,
    }
    await call(connection, "STREAM.CREATE.KV_b", config, answer=dict)
    return KeyValue(connection, "b")


async def caught_up(batches: AsyncIterator[Batch]) -> list[Batch]:
    seen: list[Batch] = []
    with trio.fail_after(60):
        async for batch in batches:
            seen.append(batch)
            if batch.caught_up:
                break
    return seen


def keys(batches: list[Batch]) -> list[str]:
    return [event.key for batch in batches for event in batch.events]


async def test_the_first_reading_is_anew_and_a_later_one_goes_on(tmp_path: Path) -> None:
    async with node_in(tmp_path) as node, connected(node) as connection:
        bucket = await make_bucket(connection)
        for number in range(700):
            await bucket.put(f"k{number}", b"1")
        async with bucket.watch_batches() as batches:
            first = await caught_up(batches)
        assert first[0].anew
        assert not any(batch.anew for batch in first[1:])
        assert keys(first) == [f"k{number}" for number in range(700)]
        assert max(len(batch.events) for batch in first) > 100
        await bucket.put("k3", b"2")
        await bucket.delete("k4")
        async with bucket.watch_batches(
            since=first[-1].revision, identity=first[-1].identity
        ) as batches:
            second = await caught_up(batches)
        assert not second[0].anew
        assert [type(event) for batch in second for event in batch.events] == [Entry, Deleted]
        assert second[-1].revision == 702


async def test_an_empty_bucket_is_caught_up_at_once(tmp_path: Path) -> None:
    async with node_in(tmp_path) as node, connected(node) as connection:
        bucket = await make_bucket(connection)
        async with bucket.watch_batches() as batches:
            only = await caught_up(batches)
        assert [(batch.anew, batch.events) for batch in only] == [(True, ())]


async def test_a_bucket_that_was_made_again_is_read_anew(tmp_path: Path) -> None:
    async with node_in(tmp_path) as node, connected(node) as connection:
        bucket = await make_bucket(connection)
        await bucket.put("old", b"1")
        async with bucket.watch_batches() as batches:
            first = await caught_up(batches)
        await call(connection, "STREAM.DELETE.KV_b", answer=dict)
        bucket = await make_bucket(connection)
        for number in range(3):  # further than the old one was: only its identity tells
            await bucket.put(f"new{number}", b"1")
        async with bucket.watch_batches(
            since=first[-1].revision, identity=first[-1].identity
        ) as batches:
            second = await caught_up(batches)
        assert second[0].anew
        assert second[0].identity != first[0].identity
        assert keys(second) == ["new0", "new1", "new2"]


async def test_an_entry_knows_when_it_expires(tmp_path: Path) -> None:
    async with node_in(tmp_path) as node, connected(node) as connection:
        bucket = await make_bucket(connection)
        await bucket.update("mortal", b"1", 0, ttl_seconds=3600)
        await bucket.put("immortal", b"1")
        async with bucket.watch_batches() as batches:
            entries = {
                event.key: event
                for batch in await caught_up(batches)
                for event in batch.events
                if isinstance(event, Entry)
            }
        assert entries["immortal"].expires_at is None
        expires_at = entries["mortal"].expires_at
        assert expires_at is not None
        assert abs(expires_at - time.time() - 3600) < 30
