"""`GET /runs/{run_id}/watch`: what a stream tells that is open for long."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
import trio

from http_api.gateway import events, gateway
from http_api.seeding import indexed, put_runs, snapshot
from pyoco_http import sse
from pyoco_server.backend import Backend
from pyoco_server.client import AsyncPyocoHttpClient
from pyoco_server.jetstream.keyvalue import KeyValue
from pyoco_server.kernel import TapEvent, TapKind


async def write(backend: Backend, run_id: str, error: str) -> None:
    bucket = KeyValue(backend.connection, backend.settings.runs_kv_bucket)
    await bucket.put(run_id, msgspec.json.encode(snapshot(run_id, error=error)))


async def test_a_state_is_told_after_any_number_of_heartbeats(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sse, "HEARTBEAT_SECONDS", 0.05)
    async with gateway(tmp_path, worker=False) as (client, backend):
        await put_runs(backend, [snapshot("r1")])
        with trio.fail_after(60):
            async with events(client, "/runs/r1/watch") as stream:
                assert (await anext(stream))[0] == "snapshot"
                for number in range(3):
                    assert (await anext(stream))[0] == "heartbeat"
                    await write(backend, "r1", str(number))
                    name, data = await anext(stream)
                    while name == "heartbeat":
                        name, data = await anext(stream)
                    assert data["snapshot"]["error"] == str(number)


async def test_a_stream_goes_on_when_the_projector_is_restarted(tmp_path: Path) -> None:
    async with gateway(tmp_path, worker=False) as (client, backend):
        await put_runs(backend, [snapshot("r1")])
        with trio.fail_after(60):
            async with events(client, "/runs/r1/watch") as stream:
                await anext(stream)
                await backend.system.restart("/gateway/reading/runs/projector")
                await write(backend, "r1", "afterwards")
                name, data = await anext(stream)
                assert (name, data["snapshot"]["error"]) == ("snapshot", "afterwards")
                await write(backend, "r1", "and on")
                name, data = await anext(stream)
                assert (name, data["snapshot"]["error"]) == ("snapshot", "and on")


async def test_a_stream_ends_when_its_run_is_deleted(tmp_path: Path) -> None:
    async with gateway(tmp_path, worker=False) as (client, backend):
        await put_runs(backend, [snapshot("r1")])
        with trio.fail_after(60):
            async with events(client, "/runs/r1/watch") as stream:
                await anext(stream)
                await KeyValue(backend.connection, backend.settings.runs_kv_bucket).delete("r1")
                assert await anext(stream, None) is None


async def test_the_end_of_a_run_is_told_however_long_ago_it_was(tmp_path: Path) -> None:
    async with gateway(tmp_path, worker=False) as (http, backend):
        ended = snapshot("r1")
        await put_runs(backend, [ended])
        with trio.fail_after(60):
            async with AsyncPyocoHttpClient(str(http.base_url)) as client:
                watch = client.watch("r1", since=ended["updated_at"] + 1)
                told = [event["data"]["snapshot"]["status"] async for event in watch]
        assert told == ["COMPLETED"]


async def test_a_state_that_cannot_be_read_disturbs_nobody(tmp_path: Path) -> None:
    died: list[str] = []

    def listen(event: TapEvent) -> None:
        if event.kind is TapKind.DIED:
            died.append(event.path)

    async with gateway(tmp_path, worker=False) as (client, backend):
        await put_runs(backend, [snapshot("r1")])
        with backend.system.tap(listen), trio.fail_after(60):
            async with events(client, "/runs/r1/watch") as stream:
                await anext(stream)
                runs = KeyValue(backend.connection, backend.settings.runs_kv_bucket)
                unreadable = snapshot("r1", tasks={"a": "OF A LATER VERSION"})
                await indexed(backend, await runs.put("r1", msgspec.json.encode(unreadable)))
                await write(backend, "r1", "readable again")
                name, data = await anext(stream)
                while name == "heartbeat":
                    name, data = await anext(stream)
                assert data["snapshot"]["error"] == "readable again"
        assert not died
