"""`GET /runs/stream`: what those get who show a list."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio

from http_api.gateway import events, gateway
from http_api.keyed import KEYED, as_key, key_for
from http_api.raw import connected
from http_api.seeding import put_runs, snapshot
from pyoco_server.gateway.feeds import ListFeed, Missed, RunChanged
from pyoco_server.gateway.read_model.filters import RunFilter
from pyoco_server.gateway.read_model.rows import row_of
from pyoco_server.jetstream.keyvalue import Entry, KeyValue
from pyoco_server.model.json_text import encode_json

Event = tuple[str, dict[str, Any]]


async def until(stream: AsyncIterator[Event], name: str) -> list[Event]:
    seen: list[Event] = []
    with trio.fail_after(60):
        async for event in stream:
            seen.append(event)
            if event[0] == name:
                return seen
    raise AssertionError(f"no {name} in {seen}")


async def test_a_stream_says_hello_and_then_each_change(tmp_path: Path) -> None:
    async with gateway(tmp_path, worker=False) as (client, backend):
        await put_runs(backend, [snapshot("r1")])
        async with events(client, "/runs/stream") as stream:
            assert [name for name, _ in await until(stream, "hello")] == ["hello"]
            await put_runs(backend, [snapshot("r1", status="FAILED", error="e")])
            name, data = await anext(stream)
            assert (name, data["run"]["run_id"], data["run"]["status"]) == ("run", "r1", "FAILED")
            bucket = KeyValue(backend.connection, backend.settings.runs_kv_bucket)
            await bucket.delete("r1")
            name, data = await anext(stream)
            assert (name, data["run_id"]) == ("gone", "r1")


async def test_a_filter_hides_others_and_tells_who_left(tmp_path: Path) -> None:
    async with (
        gateway(tmp_path, worker=False) as (client, backend),
        events(client, "/runs/stream?tag=a&status=RUNNING&counts=1") as stream,
    ):
        seen = await until(stream, "counts")
        assert seen[-1][1]["counts"] == {}
        await put_runs(backend, [snapshot("other", tag="b", status="RUNNING")])
        await put_runs(backend, [snapshot("mine", tag="a", status="RUNNING")])
        seen = await until(stream, "counts")
        assert [data["run"]["run_id"] for name, data in seen if name == "run"] == ["mine"]
        assert seen[-1][1]["counts"] == {"RUNNING": 1}
        await put_runs(backend, [snapshot("mine", tag="a", status="COMPLETED")])
        seen = await until(stream, "counts")
        assert [data["run_id"] for name, data in seen if name == "gone"] == ["mine"]


async def test_who_comes_back_gets_what_was_missed(tmp_path: Path) -> None:
    async with gateway(tmp_path, worker=False) as (client, backend):
        await put_runs(backend, [snapshot("r1"), snapshot("r2")])
        async with client.stream("GET", "/runs/stream?timeout_sec=1") as answer:
            text = "".join([part async for part in answer.aiter_text()])
        last_id = text.partition("id: ")[2].partition("\n")[0]
        await put_runs(backend, [snapshot("r2", status="FAILED"), snapshot("r3")])

        async with events(client, f"/runs/stream?last_event_id={last_id}") as stream:
            names = [await anext(stream) for _ in range(3)]
        assert [name for name, _ in names] == ["hello", "run", "run"]
        assert {data["run"]["run_id"] for _, data in names[1:]} == {"r2", "r3"}
        for strange in ("00000000-1", "nonsense"):
            async with events(client, f"/runs/stream?last_event_id={strange}") as stream:
                assert (await until(stream, "reset"))[-1][0] == "reset"


async def test_who_comes_back_loads_the_list_again_where_a_run_is_gone(tmp_path: Path) -> None:
    async with gateway(tmp_path, worker=False) as (client, backend):
        await put_runs(backend, [snapshot("r1"), snapshot("r2")])
        async with client.stream("GET", "/runs/stream?timeout_sec=1") as answer:
            text = "".join([part async for part in answer.aiter_text()])
        last_id = text.partition("id: ")[2].partition("\n")[0]
        await KeyValue(backend.connection, backend.settings.runs_kv_bucket).delete("r1")
        await put_runs(backend, [snapshot("r2", status="FAILED")])
        async with events(client, f"/runs/stream?last_event_id={last_id}") as stream:
            names = [(await anext(stream))[0] for _ in range(2)]
        assert names == ["hello", "reset"]


async def test_who_comes_back_and_is_cut_off_before_it_got_what_was_missed_gets_it_then(
    tmp_path: Path,
) -> None:
    async with gateway(tmp_path, worker=False) as (client, backend):
        await put_runs(backend, [snapshot("r1"), snapshot("r2")])

        async def greeted(last_id: str) -> str:
            """Read no more than the greeting; the last id that was seen then."""
            line = f"Last-Event-ID: {last_id}\r\n" if last_id else ""
            said = b""
            with trio.fail_after(60):
                async with connected(client) as stream:
                    await stream.send_all(
                        f"GET /runs/stream HTTP/1.1\r\nHost: localhost\r\n{line}\r\n".encode()
                    )
                    while not (
                        found := re.search(rb"((?:id: (\S+)\n)?)event: hello\n.*\n\n", said)
                    ):
                        said += await stream.receive_some()
            return (found[2] or last_id.encode()).decode()

        last_id = await greeted("")
        await put_runs(backend, [snapshot("r2", status="FAILED")])
        last_id = await greeted(last_id)
        async with events(client, f"/runs/stream?last_event_id={last_id}") as stream:
            name, data = (await until(stream, "run"))[-1]
        assert (name, data["run"]["run_id"]) == ("run", "r2")


async def test_a_stream_beats_and_ends_at_its_time(tmp_path: Path) -> None:
    async with (
        gateway(tmp_path, worker=False) as (client, _),
        events(client, "/runs/stream?timeout_sec=6") as stream,
    ):
        with trio.fail_after(60):
            assert [name async for name, _ in stream] == ["hello", "heartbeat"]


@pytest.mark.parametrize("query", ["status=NO", "timeout_sec=0", "limit=x&q=%01"])
async def test_a_stream_with_a_bad_query_is_refused(tmp_path: Path, query: str) -> None:
    async with gateway(tmp_path, worker=False) as (client, _):
        answer = await client.get(f"/runs/stream?{query}")
        assert (answer.status_code, answer.json()["detail"]) == (422, "invalid list query")


async def test_another_tenants_runs_are_not_streamed(tmp_path: Path) -> None:
    async with gateway(tmp_path, worker=False, **KEYED) as (client, backend):
        key, _ = await key_for(backend, "mine")
        url = "/runs/stream?timeout_sec=2"
        async with client.stream("GET", url, headers=as_key(key)) as answer:
            await put_runs(
                backend,
                [snapshot("theirs", tenant_id="theirs"), snapshot("mine", tenant_id="mine")],
            )
            text = "".join([part async for part in answer.aiter_text()])
        assert "theirs" not in text


def row(run_id: str, seq: int, **changes: Any) -> Any:
    return row_of(Entry(run_id, encode_json(snapshot(run_id, **changes)), seq, 0.0))


async def test_a_slow_reader_gets_the_newest_states_and_holds_a_bounded_number() -> None:
    feed = ListFeed(RunFilter())
    for seq in range(5000):
        feed.push(row(f"r{seq % 10}", seq))
    taken = await feed.next()
    assert [event.seq for event in taken] == list(range(4990, 5000))
    for seq in range(1001):
        feed.push(row(f"r{seq}", seq))
    feed.push(row("later", 2000))
    missed, *later = await feed.next()
    assert isinstance(missed, Missed)
    assert [change.row.run_id for change in later if isinstance(change, RunChanged)] == ["later"]
