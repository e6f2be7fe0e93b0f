"""What a run printed is there when its end is told, or the answer says that more comes."""

from __future__ import annotations

from functools import partialmethod
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from backend.stage import TAG, ended, worker_options
from http_api.gateway import gateway
from http_api.seeding import put_runs, snapshot
from nats_fixtures import paused
from pyoco_server.backend import Backend
from pyoco_server.client import AsyncPyocoHttpClient
from pyoco_server.gateway.event_reader import EventReader
from pyoco_server.gateway.new_run import NewRun
from pyoco_server.store.journal import EventWriter

FLOWS = """\
from pyoco.core.models import Flow
from pyoco.dsl.syntax import task


@task
def talk():
    for number in range(3):
        print(f"line {number}")


def resolve(name):
    return Flow(name=name) >> talk
"""
PRINTED = "line 0\nline 1\nline 2\n"


def events_held(patch: pytest.MonkeyPatch) -> trio.Event:
    """None is told before the event that is returned is set."""
    publish, told = EventWriter._publish, trio.Event()

    async def held(self: EventWriter, *message: Any) -> None:
        await told.wait()
        await publish(self, *message)

    patch.setattr(EventWriter, "_publish", held)
    return told


def events_late_by(seconds: float, patch: pytest.MonkeyPatch) -> None:
    publish = EventWriter._publish

    async def late(self: EventWriter, *message: Any) -> None:
        await trio.sleep(seconds)
        await publish(self, *message)

    patch.setattr(EventWriter, "_publish", late)


async def talked(backend: Backend) -> str:
    """A run that has just ended."""
    run_id = (await backend.submit(NewRun("talk", tag=TAG, params={}))).run_id
    assert (await ended(backend, run_id)).status == "COMPLETED"
    return run_id


def text_of(page: dict[str, Any]) -> str:
    return "".join(item["text"] for item in page["items"])


async def read(client: httpx.AsyncClient, path: str) -> dict[str, Any]:
    answer = await client.get(path)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_output_is_there_when_the_end_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = worker_options(tmp_path)
    (tmp_path / "flows.py").write_text(FLOWS)
    events_late_by(0.2, monkeypatch)
    # What is late by a fifth of a second may be late by more on a busy machine.
    monkeypatch.setattr(EventReader, "stored", partialmethod(EventReader.stored, patience=30.0))
    monkeypatch.setattr("pyoco_http.logs._PAGE_SECONDS", 30.0)
    async with gateway(tmp_path, worker=options) as (client, backend):
        for _ in range(3):
            run_id = await talked(backend)
            page = await read(client, f"/runs/{run_id}/logs")
            assert (text_of(page), page["next_cursor"]) == (PRINTED, None)
            again = await read(client, f"/runs/{run_id}/logs?cursor={page['position']}")
            assert (again["items"], again["next_cursor"]) == ([], None)
        for query, wanted in (("format=text", PRINTED), ("format=text&tail=2", PRINTED[7:])):
            run_id = await talked(backend)
            assert (await client.get(f"/runs/{run_id}/logs?{query}")).text == wanted
        tail = await read(client, f"/runs/{await talked(backend)}/logs?tail=1")
        assert (text_of(tail), tail["next_cursor"]) == ("line 2\n", None)
        states = (await read(client, f"/runs/{await talked(backend)}/events?type=state"))["items"]
        assert [state["status"] for state in states] == ["PENDING", "RUNNING", "COMPLETED"]
        assert (await read(client, f"/runs/{await talked(backend)}/graph"))["source"] == "run"
        async with backend.logs(await talked(backend), follow=False) as chunks:
            assert "".join([chunk.text async for chunk in chunks]) == PRINTED


async def test_events_that_cannot_be_read_are_a_503_for_text_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pyoco_server.gateway.event_reader._READ_SECONDS", 0.5)
    options = worker_options(tmp_path)
    (tmp_path / "flows.py").write_text(FLOWS)
    async with gateway(tmp_path, worker=options) as (client, backend):
        run_id = await talked(backend)
        assert backend.node is not None
        with paused(backend.node):
            for query in ("format=json", "format=text", "format=text&tail=1"):
                answer = await client.get(f"/runs/{run_id}/logs?{query}")
                assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1"), query
        assert (await client.get(f"/runs/{run_id}/logs?format=text")).text == PRINTED


async def test_what_takes_longer_is_announced_and_waited_for_on_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = worker_options(tmp_path)
    (tmp_path / "flows.py").write_text(FLOWS)
    async with gateway(tmp_path, worker=options) as (client, backend):
        with monkeypatch.context() as patch:
            told = events_held(patch)
            run_id = await talked(backend)
            first = await read(client, f"/runs/{run_id}/logs")
            assert (first["items"], first["next_cursor"]) == ([], "0")
            told.set()
        events_late_by(1.7, monkeypatch)
        text, cursor = "", first["next_cursor"]
        while cursor is not None:
            rest = await read(client, f"/runs/{run_id}/logs?cursor={cursor}")
            text, cursor = text + text_of(rest), rest["next_cursor"]
        assert text == PRINTED
        run_id = await talked(backend)
        followed = await client.get(f"/runs/{run_id}/logs?follow=true&format=text")
        assert followed.text == PRINTED
        assert (await client.get(f"/runs/{await talked(backend)}/logs?format=text")).text == PRINTED
        async with AsyncPyocoHttpClient(str(client.base_url)) as ours:
            run_id = await talked(backend)
            texts = [c["text"] async for c in ours.logs(run_id) if c["type"] == "log"]
            assert "".join(texts) == PRINTED


async def test_what_tells_no_events_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as a run of a worker of 0.5.1, and one whose events have expired."""
    async with gateway(tmp_path, worker=False) as (client, backend):
        await put_runs(backend, [snapshot("of-old", worker_id="w")])
        monkeypatch.setattr("pyoco_http.logs._PAGE_SECONDS", 600.0)
        with trio.fail_after(60):
            page = await read(client, "/runs/of-old/logs")
        assert (page["items"], page["next_cursor"]) == ([], None)
