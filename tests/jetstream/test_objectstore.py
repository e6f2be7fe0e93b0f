"""The object store: what is put comes back, whichever client put it, and nothing ever waits for ever."""

from __future__ import annotations

import asyncio
import hashlib
import math
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import nats
import pytest
import trio
from nats.js.api import ObjectMeta

from nats_fixtures import Connection, ConnectionOptions, Node, connected, eventually, killed
from pyoco_server.jetstream.api import call
from pyoco_server.jetstream.connection import open_connection
from pyoco_server.jetstream.errors import (
    BridgeError,
    ObjectDamaged,
    ObjectNotFound,
    WrongRevision,
)
from pyoco_server.jetstream.follow import CaughtUp
from pyoco_server.jetstream.objectinfo import CHUNK_BYTES
from pyoco_server.jetstream.objectstore import ObjectInfo, ObjectStore
from pyoco_server.jetstream.resources import ensure_resources
from pyoco_server.settings import Settings
from tcp_proxy import open_proxy

pytestmark = pytest.mark.nats
BUCKET = "pyoco_wheels"
BIG = os.urandom(CHUNK_BYTES * 20 + 1234)


async def pieces(data: bytes, size: int = 100_000) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


async def fetched(store: ObjectStore, name: str, **options: Any) -> bytes:
    data = bytearray()
    async with store.read(await store.info(name), **options) as parts:
        async for part in parts:
            data += part
    return bytes(data)


async def opened(connection: Connection) -> ObjectStore:
    await ensure_resources(connection, Settings())
    return ObjectStore(connection, BUCKET)


async def chunk_subjects(connection: Connection) -> dict[str, int]:
    body = {"subjects_filter": f"$O.{BUCKET}.C.>"}
    info: dict[str, Any] = await call(
        connection, f"STREAM.INFO.OBJ_{BUCKET}", body, answer=dict[str, Any]
    )
    return info["state"].get("subjects") or {}


def with_nats_py(node: Node, use: Callable[[Any], Awaitable[Any]]) -> Any:
    """Run ``use`` with nats-py's own object store, as 0.5.1 does."""

    async def main() -> Any:
        client = await nats.connect(node.url)
        try:
            return await use(await client.jetstream().object_store(BUCKET))
        finally:
            await client.close()

    return asyncio.run(main())


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES, CHUNK_BYTES + 1, len(BIG)])
async def test_what_is_put_comes_back(nats_node: Node, size: int) -> None:
    data = BIG[:size]
    async with connected(nats_node) as connection:
        store = await opened(connection)
        info = await store.put("näme/with spaces", pieces(data), headers={"sha256": "x"})
        assert (info.size, info.chunks) == (size, -(-size // CHUNK_BYTES))
        assert info.sha256_hex == hashlib.sha256(data).hexdigest()
        assert await store.info("näme/with spaces") == info
        assert await fetched(store, "näme/with spaces") == data


async def test_nats_py_reads_what_we_put_and_we_read_what_it_puts(nats_node: Node) -> None:
    async with connected(nats_node) as connection:
        store = await opened(connection)
        await store.put("ours", pieces(BIG), headers={"sha256": "ab", "x-pyoco-wheel-tags": "a,b"})

        async def swap(theirs: Any) -> Any:
            got = await theirs.get("ours")
            await theirs.put("theirs", BIG, meta=ObjectMeta(name="theirs", headers={"k": "v"}))
            listed = {info.name: info for info in await theirs.list()}
            await theirs.delete("ours")
            return got, listed

        got, listed = await trio.to_thread.run_sync(with_nats_py, nats_node, swap)
        assert got.data == BIG
        assert got.info.headers == {"sha256": "ab", "x-pyoco-wheel-tags": "a,b"}
        assert set(listed) == {"ours", "theirs"}
        assert listed["ours"].size == len(BIG)
        assert listed["ours"].mtime
        assert await fetched(store, "theirs") == BIG
        assert (await store.info("theirs")).header("k") == "v"
        with pytest.raises(ObjectNotFound):
            await store.info("ours")
        await store.delete("theirs")
        left = await trio.to_thread.run_sync(
            with_nats_py, nats_node, lambda theirs: theirs.list(ignore_deletes=False)
        )
        assert {info.name: info.deleted for info in left} == {"ours": True, "theirs": True}
        assert await chunk_subjects(connection) == {}


async def test_a_replaced_object_leaves_no_chunks_and_its_readers_get_an_error(
    nats_node: Node,
) -> None:
    async with connected(nats_node) as connection:
        store = await opened(connection)
        old = await store.put("a", pieces(BIG))
        with trio.fail_after(60):
            async with store.read(old) as parts:
                first = await anext(aiter(parts))
                new = await store.put("a", pieces(b"new"))
                with pytest.raises(ObjectDamaged, match="chunks are gone"):
                    async for _ in parts:
                        pass
        assert first == BIG[:CHUNK_BYTES]
        assert await chunk_subjects(connection) == {f"$O.{BUCKET}.C.{new.nuid}": 1}
        assert await fetched(store, "a") == b"new"


async def test_a_changed_byte_is_noticed_before_the_last_piece(nats_node: Node) -> None:
    async with connected(nats_node) as connection:
        store = await opened(connection)
        info = await store.put("a", pieces(BIG))
        good = hashlib.sha256(BIG).digest()
        import base64

        from msgspec.structs import replace

        wrong = replace(info, digest="SHA-256=" + base64.urlsafe_b64encode(good[::-1]).decode())
        got = 0
        async with store.read(wrong) as parts:
            with pytest.raises(ObjectDamaged, match="instead of"):  # noqa: PT012
                async for part in parts:
                    got += len(part)
        assert 0 < got < len(BIG)


async def test_a_read_goes_on_over_a_killed_server(nats_node: Node) -> None:
    async with connected(nats_node) as connection:
        store = await opened(connection)
        info = await store.put("a", pieces(BIG))
        data = bytearray()
        with trio.fail_after(60):
            async with store.read(info, silence_seconds=30) as parts:
                async for part in parts:
                    if not data:
                        await killed(nats_node, connection)
                    data += part
        assert bytes(data) == BIG


@pytest.mark.parametrize(("delay", "pace"), [(0.15, math.inf), (0.0, 100_000)])
async def test_an_object_is_read_from_far_away_and_over_a_narrow_link(
    nats_node: Node, delay: float, pace: float
) -> None:
    data = BIG[: CHUNK_BYTES * 2]
    async with connected(nats_node) as connection:
        await (await opened(connection)).put("a", pieces(data))
    async with (
        open_proxy(nats_node.port) as proxy,
        open_connection(ConnectionOptions(urls=(proxy.nats_url,))) as connection,
    ):
        await connection.wait_connected(within=60)
        proxy.delay, proxy.pace = delay, pace
        with trio.fail_after(60):
            assert await fetched(ObjectStore(connection, BUCKET), "a") == data


async def test_a_read_ends_when_nats_is_away_for_too_long(nats_node: Node) -> None:
    from nats_fixtures import paused

    async with connected(nats_node) as connection:
        store = await opened(connection)
        info = await store.put("a", pieces(BIG))
        with paused(nats_node), trio.fail_after(60):
            async with store.read(info, silence_seconds=0.2) as parts:
                with pytest.raises(BridgeError):
                    async for _ in parts:
                        pass


async def test_two_drafts_of_one_look_at_the_store_exclude_each_other(nats_node: Node) -> None:
    async with connected(nats_node) as connection:
        store = await opened(connection)
        _, last = await store.all()
        assert last == 0
        one = await store.draft("pkg-1", pieces(b"1"))
        two = await store.draft("pkg-2", pieces(b"2"))
        await store.publish(one, expected_last_change=last)
        with pytest.raises(WrongRevision):
            await store.publish(two, expected_last_change=last)
        _, last = await store.all()
        await store.publish(two, expected_last_change=last)
        assert await fetched(store, "pkg-2") == b"2"


class Endless:
    def __aiter__(self) -> Endless:
        return self

    async def __anext__(self) -> bytes:
        return BIG[:CHUNK_BYTES]


async def test_a_cancelled_put_leaves_nothing(nats_node: Node) -> None:
    async with connected(nats_node) as connection:
        store = await opened(connection)
        with trio.move_on_after(0.3):
            await store.put("a", Endless())

        async def empty() -> bool:
            return await chunk_subjects(connection) == {}

        await eventually(empty, what="no chunks")
        assert (await store.all())[0] == []


async def test_chunks_that_the_server_has_not_stored_yet_do_not_outlive_their_put(
    nats_node: Node,
) -> None:
    """A purge has a quicker way through the server than the chunks that were sent before it."""
    async with connected(nats_node) as connection:
        store = await opened(connection)
        for _ in range(30):
            with trio.CancelScope() as scope:

                async def seven(scope: trio.CancelScope = scope) -> AsyncIterator[bytes]:
                    for _ in range(7):
                        yield BIG[:CHUNK_BYTES]
                    scope.cancel()
                    await trio.lowlevel.checkpoint()

                await store.put("a", seven())

        async def empty() -> bool:
            return await chunk_subjects(connection) == {}

        await eventually(empty, within=60, what="no chunks")


async def test_orphans_are_purged_and_others_kept(nats_node: Node) -> None:
    async with connected(nats_node) as connection:
        store = await opened(connection)
        await store.put("kept", pieces(BIG))
        draft = await store.draft("lost", pieces(BIG))
        assert await store.purge_orphans(older_than_seconds=60) == 0
        assert await store.purge_orphans(older_than_seconds=0) == 1
        assert f"$O.{BUCKET}.C.{draft.nuid}" not in await chunk_subjects(connection)
        assert await fetched(store, "kept") == BIG


async def test_a_watch_tells_what_is_and_what_changes(nats_node: Node) -> None:
    async with connected(nats_node) as connection:
        store = await opened(connection)
        await store.put("a", pieces(b"1"))
        seen: list[Any] = []
        with trio.fail_after(60):
            async with store.watch() as events:
                async for event in events:
                    if isinstance(event, CaughtUp):
                        await store.put("b", pieces(b"2"))
                        await store.delete("a")
                        seen.append("caught up")
                    else:
                        assert isinstance(event, ObjectInfo)
                        seen.append((event.name, event.deleted))
                    if len(seen) == 4:
                        break
        assert seen == [("a", False), "caught up", ("b", False), ("a", True)]
        await store.forget("a")
        assert [info.name for info in (await store.all())[0]] == ["b"]
