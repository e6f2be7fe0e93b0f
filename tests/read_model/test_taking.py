"""What the read side does with what the watch brings, while its file is being written."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
import trio
from msgspec.structs import replace

from pyoco_server.gateway import feeds, read_side
from pyoco_server.gateway.feeds import RunChanged
from pyoco_server.gateway.read_model.filters import RunFilter
from pyoco_server.gateway.read_model.writer import Changes, Writer
from pyoco_server.gateway.read_side import ReadSide
from pyoco_server.jetstream.connection import Connection
from pyoco_server.jetstream.inventory import StreamState
from pyoco_server.jetstream.keyvalue import Batch, Deleted, Entry, KeyValue
from pyoco_server.model.run import RunSnapshot, RunStatus, decode_snapshot, encode_snapshot
from pyoco_server.settings import Settings
from pyoco_server.store.runs import RunStore
from read_model.test_seen_runs import Nats, batch

EXPIRES_AT = 2e9


def waiting(revision: int, run_id: str = "r") -> Entry:
    run = RunSnapshot(run_id=run_id, flow_name="f", status=RunStatus.PENDING, expires_at=EXPIRES_AT)
    return Entry(run_id, encode_snapshot(run, max_bytes=0), revision, 1e9, None)


@pytest.fixture
def reads(tmp_path: Path) -> ReadSide:
    nats = Nats()
    runs = RunStore(cast(KeyValue, nats), max_bytes=0)
    settings = replace(Settings(), state_dir=str(tmp_path))
    return ReadSide(cast(Connection, nats), settings, runs)


async def take(reads: ReadSide, found: Batch) -> None:
    await reads.indexer.put(reads.projector.take(found))


@pytest.mark.parametrize("by", ["its marker", "its time"])
async def test_a_run_made_anew_under_its_id_is_not_gone_when_its_deletion_is_written(
    reads: ReadSide, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    """A submission that broke off was taken back, and tried again."""
    removed, told = trio.Event(), trio.Event()

    def held(real: Callable[..., Any], writer: Writer, what: Changes | list[str]) -> Any:
        applied = real(writer, what)
        if applied.removed:
            trio.from_thread.run_sync(removed.set)
            trio.from_thread.run(told.wait)
        return applied

    for method in (Writer.apply, Writer.drop):
        monkeypatch.setattr(Writer, method.__name__, lambda *args, real=method: held(real, *args))
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(reads.indexer.write)
            await take(reads, batch(waiting(10), anew=True))
            await reads.indexer.reached(10)
            with reads.feeds.of_list(RunFilter()) as feed:
                if by == "its marker":
                    await take(reads, batch(Deleted("r", 11)))
                else:
                    nursery.start_soon(reads.indexer.drop, ["r"])
                await removed.wait()
                await take(reads, batch(waiting(12)))
                nursery.start_soon(partial(reads.indexer.reached, 12))
                if by == "its time":
                    while reads.indexer._pending is not None:
                        await trio.sleep(0.01)
                told.set()
                await reads.indexer.reached(12)
                [change] = await feed.next()
            nursery.cancel_scope.cancel()
    assert isinstance(change, RunChanged)
    assert change.seq == 12
    live = reads.live.get("r")
    assert live is not None
    assert live.revision == 12
    assert reads.live.take_due(EXPIRES_AT, 10) == ([live], [])
    # From memory: there is nobody to ask.
    assert (await reads.seen.get("r")).revision == 12
    await reads.indexer.close()


async def test_a_snapshot_is_read_once_for_all_who_follow_its_run(
    reads: ReadSide, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[bytes] = []

    def counted(value: bytes) -> RunSnapshot:
        read.append(value)
        return decode_snapshot(value)

    monkeypatch.setattr(feeds, "decode_snapshot", counted)
    reads.projector.take(batch(waiting(1), waiting(2, "followed by nobody"), anew=True))
    async with AsyncExitStack() as opened:
        following = [await opened.enter_async_context(reads.feeds.of_run("r")) for _ in range(50)]
        reads.projector.take(batch(waiting(3), waiting(4, "followed by nobody")))
        assert len(read) == 1
        with trio.fail_after(60):
            assert {(await anext(feed)).run_id for feed in following} == {"r"}


async def test_a_list_that_asks_how_far_the_bucket_is_takes_back_nothing_told_meanwhile(
    reads: ReadSide, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def asked(*_: object) -> StreamState:
        # The answer is under way when a cancel is acknowledged.
        reads.seen.note("r", 101)
        return StreamState(last_seq=100)

    monkeypatch.setattr(read_side, "stream_state", asked)
    monkeypatch.setattr(read_side, "_CATCH_UP_SECONDS", 0.0)
    reads.projector.take(batch(waiting(100), anew=True))
    await reads._catch_up()
    assert reads.token.endswith("-101")
