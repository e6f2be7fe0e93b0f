"""Events, logs and graph of a run over HTTP."""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import h11
import httpx
import pytest
import trio

from backend.stage import TAG, ended, new_run, until, worker_options
from http_api.gateway import YAML, gateway, yaml_form
from http_api.seeding import put_runs, snapshot
from pyoco_http.event_streams import _plain
from pyoco_server.backend.following import Followed
from pyoco_server.client.sse import SseEvent, SseParser
from pyoco_server.gateway import run_logs
from pyoco_server.gateway.event_reader import Cursor, StoredEvent
from pyoco_server.gateway.new_run import NewRun
from pyoco_server.gateway.run_logs import MOST_BYTES, LastLines
from pyoco_server.jetstream.errors import Unanswered
from pyoco_server.model.event import LogChunk, OutputTruncated
from pyoco_server.model.run import RunStatus

FLOWS = """\
import sys
import time
from pathlib import Path

from pyoco.core.models import Flow
from pyoco.dsl.syntax import task


@task
def talk(lines=3):
    for number in range(lines):
        print(f"line {number}")
    print("to stderr", file=sys.stderr)


@task
def flood(lines=10):
    for number in range(lines):
        print("x" * 999)
    print("the end")


@task
def wait_for(path, seconds=60):
    print("waiting")
    while not Path(path).exists():
        time.sleep(0.01)
    print("seen")


TASKS = {"talk": talk, "flood": flood, "wait_for": wait_for}


def resolve(name):
    return Flow(name=name) >> TASKS[name]
"""


@asynccontextmanager
async def talking(folder: Path, **changes: Any) -> AsyncIterator[tuple[httpx.AsyncClient, Any]]:
    path = folder / "talk_flows.py"
    path.write_text(FLOWS)
    worker = worker_options(folder, flow_resolver=f"{path}:resolve", output=None)
    async with gateway(folder, worker=worker, **changes) as (client, backend):
        yield client, backend


@asynccontextmanager
async def stream(
    client: httpx.AsyncClient, path: str, last_id: str | None = None
) -> AsyncIterator[AsyncGenerator[SseEvent, None]]:
    """The server-sent events of a path until the gateway ends them."""
    http = h11.Connection(h11.CLIENT)
    parser = SseParser()

    async def read(connection: trio.SocketStream) -> AsyncGenerator[SseEvent, None]:
        while True:
            event = http.next_event()
            if event is h11.NEED_DATA:
                http.receive_data(await connection.receive_some())
            elif isinstance(event, h11.Response):
                assert event.status_code == 200
            elif isinstance(event, h11.Data):
                for each in parser.feed(bytes(event.data)):
                    yield each
            else:
                return

    host, port = client.base_url.host, client.base_url.port or 80
    headers = [("Host", host), ("Accept", "text/event-stream")]
    if last_id is not None:
        headers.append(("Last-Event-ID", last_id))
    connection = await trio.open_tcp_stream(host, port)
    async with connection, aclosing(read(connection)) as events:
        request = h11.Request(method="GET", target=path, headers=headers)
        await connection.send_all(http.send(request) + http.send(h11.EndOfMessage()))
        yield events


async def all_of(client: httpx.AsyncClient, path: str, last_id: str | None = None) -> list[Any]:
    with trio.fail_after(60):
        async with stream(client, path, last_id) as events:
            return [event async for event in events if event.event != "heartbeat"]


async def test_a_run_tells_its_states_its_tasks_its_flow_and_what_it_prints(tmp_path: Path) -> None:
    async with talking(tmp_path) as (client, backend):
        run = await backend.submit(new_run("talk"))
        events = await all_of(client, f"/runs/{run.run_id}/events")
        kinds = [event.event for event in events]
        assert kinds[-2:] == ["state", "end"]
        documents = [json.loads(event.data) for event in events]
        states = [each["status"] for each in documents if each.get("type") == "state"]
        assert states == ["PENDING", "RUNNING", "COMPLETED"]
        tasks = [(each["task"], each["state"]) for each in documents if each.get("type") == "task"]
        assert tasks == [("talk", "RUNNING"), ("talk", "SUCCEEDED")]
        printed = [each for each in documents if each.get("type") == "log"]
        assert "".join(each["text"] for each in printed if each["stream"] == "stdout") == (
            "line 0\nline 1\nline 2\n"
        )
        assert {each["task"] for each in printed} == {"talk"}
        assert {each["attempt"] for each in printed} == {1}
        assert [each["seq"] for each in printed] == list(range(len(printed)))
        revisions = [each["revision"] for each in documents if each.get("type") == "state"]
        assert revisions == sorted(revisions)

        page = (await client.get(f"/runs/{run.run_id}/events")).json()
        assert [item["id"] for item in page["items"]] == [event.id for event in events[:-1]]
        assert page["next_cursor"] is None


async def test_events_go_on_behind_each_id_without_gap_or_repetition(tmp_path: Path) -> None:
    async with talking(tmp_path) as (client, backend):
        run = await backend.submit(new_run("talk"))
        await ended(backend, run.run_id)
        path = f"/runs/{run.run_id}/events"
        events = [event for event in await all_of(client, path) if event.event != "end"]
        ids = [event.id for event in events]
        assert len(set(ids)) == len(ids) >= 6
        for number, event in enumerate(events):
            rest = await all_of(client, path, last_id=event.id)
            assert [each.id for each in rest if each.event != "end"] == ids[number + 1 :]
        seen: list[str] = []
        cursor: str | None = None
        while True:
            query = {"limit": "2"} | ({"cursor": cursor} if cursor else {})
            page = (await client.get(path, params=query)).json()
            seen += [item["id"] for item in page["items"]]
            cursor = page["next_cursor"]
            if cursor is None:
                break
        assert seen == ids


async def test_events_can_be_narrowed_to_types(tmp_path: Path) -> None:
    async with talking(tmp_path) as (client, backend):
        run = await backend.submit(new_run("talk"))
        await ended(backend, run.run_id)
        path = f"/runs/{run.run_id}/events"
        await all_of(client, path)
        page = (await client.get(path, params={"type": "state,task"})).json()
        assert {item["type"] for item in page["items"]} == {"state", "task"}


async def test_a_followed_text_is_at_its_end_only_where_the_run_is() -> None:
    printed = LogChunk(at=1.0, task="t", stream="stdout", text="hello\n", seq=0)

    async def items(*last: RunStatus) -> Followed:
        yield StoredEvent(Cursor(1), printed)
        yield None
        for each in last:
            yield each

    assert [text async for text in _plain(items(RunStatus.COMPLETED))] == [b"hello\n"]
    broken_off = _plain(items())
    assert await anext(broken_off) == b"hello\n"
    with pytest.raises(Unanswered, match="broke off"):
        await anext(broken_off)


async def test_a_line_comes_while_its_task_still_runs(tmp_path: Path) -> None:
    async with talking(tmp_path) as (client, backend):
        flag = tmp_path / "go on"
        run = await backend.submit(new_run("wait_for", path=str(flag)))
        path = f"/runs/{run.run_id}/logs?follow=1"
        with trio.fail_after(60):
            async with stream(client, path) as events:
                first = await anext(events)
                while first.event != "log":
                    first = await anext(events)
                assert json.loads(first.data)["text"] == "waiting\n"
                assert not (await backend.get(run.run_id)).status.terminal
                flag.touch()
                rest = [event async for event in events if event.event != "heartbeat"]
        assert [event.event for event in rest] == ["log", "end"]
        assert json.loads(rest[0].data)["text"] == "seen\n"
        assert json.loads(rest[1].data)["status"] == "COMPLETED"


async def test_logs_of_a_killed_run_are_there_up_to_the_kill(tmp_path: Path) -> None:
    async with talking(tmp_path, cancel_grace_period_sec=0.1) as (client, backend):
        run = await backend.submit(new_run("wait_for", path=str(tmp_path / "never")))
        path = f"/runs/{run.run_id}/logs"
        with trio.fail_after(60):
            async with stream(client, f"{path}?follow=1") as events:
                async for event in events:
                    if event.event == "log":
                        await backend.cancel(run.run_id, reason="enough")
                    last = event
        assert json.loads(last.data)["status"] == "CANCELLED"
        answer = await client.get(path, params={"format": "text"})
        assert answer.text == "waiting\n"
        events_page = (await client.get(f"/runs/{run.run_id}/events?type=state")).json()
        states = [(item["status"], item["reason"]) for item in events_page["items"]]
        assert states[-2:] == [("CANCELLING", "enough"), ("CANCELLED", "cancelled")]


async def test_logs_are_narrowed_and_cut_to_the_last_lines(tmp_path: Path) -> None:
    async with talking(tmp_path) as (client, backend):
        run = await backend.submit(new_run("talk", lines=100))
        await ended(backend, run.run_id)
        path = f"/runs/{run.run_id}/logs"
        await all_of(client, f"{path}?follow=1")

        async def text(**query: str | int | float) -> str:
            answer = await client.get(path, params={"format": "text", **query})
            assert answer.status_code == 200
            assert answer.headers["content-type"].startswith("text/plain")
            return answer.text

        assert await text(stream="stderr") == "to stderr\n"
        assert await text(stream="stdout", tail=2) == "line 98\nline 99\n"
        assert await text(task="another") == ""
        assert await text(attempt=2) == ""
        assert await text(since=4102444800) == ""
        assert await text(stream="stdout") == "".join(f"line {n}\n" for n in range(100))
        last = (await client.get(path, params={"tail": 1, "stream": "stdout"})).json()
        assert [item["text"] for item in last["items"]] == ["line 99\n"]


def test_the_last_line_may_have_no_end() -> None:
    lines, size = LastLines(1), 16 * 1024
    for number in range(10_000):
        chunk = LogChunk(
            at=number, task="t", stream="stdout", text="\r" + "#" * (size - 1), seq=number
        )
        lines.add(StoredEvent(Cursor(number + 1), chunk))
        assert len(lines._items) * size <= MOST_BYTES + size
    first, *rest = lines.items()
    kept = len(rest) * size
    assert kept > MOST_BYTES * 0.9
    assert first.cursor.sequence == rest[0].cursor.sequence - 1
    assert isinstance(first.event, OutputTruncated)
    assert (first.event.left_out_bytes, first.event.limit_bytes) == (
        10_000 * size - kept,
        MOST_BYTES,
    )
    # Lines that have an end are worth more than what was before them, whatever that was.
    text = "the last but one\nthe last\n"
    chunk = LogChunk(at=0.0, task="t", stream="stdout", text=text, seq=10_000)
    lines.add(StoredEvent(Cursor(10_001), chunk))
    [last] = lines.items()
    assert isinstance(last.event, LogChunk)
    assert last.event.text == "the last\n"


async def test_last_lines_that_are_too_many_bytes_are_cut_in_front(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_logs, "MOST_BYTES", 5000)
    async with talking(tmp_path) as (client, backend):
        run = await backend.submit(new_run("flood", lines=600))
        await ended(backend, run.run_id)
        path = f"/runs/{run.run_id}/logs"
        await all_of(client, f"{path}?follow=1")
        whole = (await client.get(path, params={"format": "text"})).text
        first, *rest = (await client.get(path, params={"tail": 601})).json()["items"]
        shown = "".join(item["text"] for item in rest)
        assert whole.endswith(shown)
        assert len(shown) < len(whole)
        assert (first["type"], first["limit_bytes"]) == ("truncated", 5000)
        assert first["left_out_bytes"] == len(whole) - len(shown)
        text = (await client.get(path, params={"tail": 601, "format": "text"})).text
        assert text == f"\n… {len(whole) - len(shown)} bytes of output were left out …\n" + shown
        [last] = (await client.get(path, params={"tail": 1})).json()["items"]
        assert last["text"] == "the end\n"


async def test_output_beyond_the_limit_is_left_out_and_counted(tmp_path: Path) -> None:
    async with talking(tmp_path, events_run_max_bytes=5000) as (client, backend):
        run = await backend.submit(new_run("flood", lines=10))
        snapshot = await ended(backend, run.run_id)
        assert snapshot.status == "COMPLETED"
        await all_of(client, f"/runs/{run.run_id}/logs?follow=1")
        items = (await client.get(f"/runs/{run.run_id}/logs")).json()["items"]
        kept = "".join(item["text"] for item in items if item["type"] == "log")
        assert len(kept.encode()) == 5000
        assert items[-1]["type"] == "truncated"
        assert items[-1]["limit_bytes"] == 5000
        # What the child says of the cut in the text itself counts as printed.
        assert items[-1]["left_out_bytes"] >= 10 * 1000 + len("the end\n") - 5000


async def test_the_graph_comes_from_the_flow_yaml_or_from_the_run(tmp_path: Path) -> None:
    async with talking(tmp_path) as (client, backend):
        answer = await client.post("/runs/yaml", **yaml_form(YAML, flow_name="main", tag=TAG))
        graph = (await client.get(f"/runs/{answer.json()['run_id']}/graph")).json()
        assert graph["source"] == "workflow"
        assert [(node["id"], node["kind"]) for node in graph["nodes"]] == [
            ("add_one", "task"),
            ("to_text", "task"),
        ]
        assert graph["edges"] == [{"source": "add_one", "target": "to_text", "kind": "all"}]

        run = await backend.submit(new_run("talk"))
        await ended(backend, run.run_id)
        await all_of(client, f"/runs/{run.run_id}/events")
        graph = (await client.get(f"/runs/{run.run_id}/graph")).json()
        assert graph["source"] == "run"
        assert [node["name"] for node in graph["nodes"]] == ["talk"]


async def test_the_graph_of_a_run_that_has_not_begun_is_not_known(tmp_path: Path) -> None:
    async with gateway(tmp_path, worker=False) as (client, backend):
        run = await backend.submit(NewRun("anything", tag=TAG))
        answer = await client.get(f"/runs/{run.run_id}/graph")
        assert answer.status_code == 404
        assert answer.json()["detail"] == "graph not known"


async def test_the_graph_of_a_run_of_which_only_the_tasks_are_known_has_no_edges(
    tmp_path: Path,
) -> None:
    async with gateway(tmp_path, worker=False) as (client, backend):
        # A worker of 0.5.1 tells no structure.
        run_id = str(uuid.uuid4())
        states = {"first": "SUCCEEDED", "second": "RUNNING"}
        await put_runs(backend, [snapshot(run_id, status="RUNNING", end_time=None, tasks=states)])
        graph = (await client.get(f"/runs/{run_id}/graph")).json()
        assert graph["source"] == "tasks"
        assert [node["name"] for node in graph["nodes"]] == ["first", "second"]
        assert graph["edges"] == []


async def test_a_run_whose_events_do_not_tell_its_end_ends_its_stream_all_the_same(
    tmp_path: Path,
) -> None:
    async with gateway(tmp_path) as (client, backend):
        run = await backend.submit(new_run("quick"))
        await until(backend, run.run_id, lambda state: state.status.terminal)
        # As after a worker of 0.5.1, which tells no events: nothing comes any more.
        events = await all_of(client, f"/runs/{run.run_id}/events", last_id="999999999")
        await backend.connection.request("$JS.API.STREAM.PURGE.PYOCO_EVENTS", within=60)
        events = await all_of(client, f"/runs/{run.run_id}/events")
        assert [event.event for event in events] == ["end"]
        assert json.loads(events[0].data)["status"] == "COMPLETED"


async def test_unknown_runs_and_wrong_queries_are_refused(tmp_path: Path) -> None:
    async with gateway(tmp_path, worker=False) as (client, backend):
        for path in ("events", "logs", "graph", "events?follow=1", "logs?follow=1"):
            for run_id in ("0b6b9a3e-0000-4000-8000-000000000000", "%3E"):
                answer = await client.get(f"/runs/{run_id}/{path}")
                assert answer.status_code == 404
                assert answer.json()["detail"] == "run not found"
        run = await backend.submit(new_run("quick"))
        wrong = {
            "events": ("limit=0", "limit=x", "cursor=x", "type=nonsense", "follow=perhaps"),
            "logs": ("tail=0", "stream=stdin", "attempt=-1", "since=nan", "format=xml"),
        }
        for path, queries in wrong.items():
            for query in queries:
                answer = await client.get(f"/runs/{run.run_id}/{path}?{query}")
                assert answer.status_code == 422, query
                assert answer.json()["field"] == query.partition("=")[0]
                assert answer.json()["reason"].startswith("takes")
