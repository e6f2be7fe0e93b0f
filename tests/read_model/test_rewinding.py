"""The storage of NATS goes back in time and is written past, while a gateway is down or away."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import structlog
import trio

from backend.stage import settings_for
from e2e.programs import Program, Stage
from http_api.keyed import KEYED, bucket_of, key_for, store
from http_api.seeding import put_runs, put_worker, snapshot
from pyoco_server.backend import Backend, open_backend
from pyoco_server.gateway.key_ring import InvalidApiKey, KeysUnavailable
from pyoco_server.gateway.new_run import NewRun, Person
from pyoco_server.gateway.read_model.filters import RunFilter
from pyoco_server.gateway.schedules.desk import Wish
from pyoco_server.jetstream.connection import Connection, ConnectionOptions, open_connection
from pyoco_server.jetstream.keyvalue import KeyValue
from pyoco_server.store.runs import RunNotFound


class Storage:
    """A NATS server whose store can be put back."""

    def __init__(self, folder: Path) -> None:
        self.stage = Stage(folder, dict(os.environ))
        self.store = folder / "nats-store"
        self._copy = folder / "copy"
        self._server: Program | None = None

    async def start(self) -> None:
        self._server = await trio.to_thread.run_sync(self.stage.nats)

    async def stop(self) -> None:
        assert self._server is not None
        self._server.send(2)
        await trio.to_thread.run_sync(self._server.wait)

    async def copy(self) -> None:
        await self.stop()
        shutil.copytree(self.store, self._copy)
        await self.start()

    async def put_back(self, write: Callable[[Connection], Any]) -> None:
        """Put the copy back and have it written on before anybody else sees it; the server is down before."""
        shutil.rmtree(self.store)
        shutil.copytree(self._copy, self.store)
        port, elsewhere = self.stage.nats_port, Stage(self.stage.folder, self.stage.env)
        self.stage.nats_port = elsewhere.nats_port
        await self.start()
        async with open_connection(ConnectionOptions(urls=(self.stage.nats_url,))) as connection:
            await connection.wait_connected(within=60)
            await write(connection)
        await self.stop()
        self.stage.nats_port = port
        await self.start()


@asynccontextmanager
async def storage(folder: Path) -> AsyncIterator[Storage]:
    one = Storage(folder)
    try:
        await one.start()
        yield one
    finally:
        for program in one.stage.programs:
            await trio.to_thread.run_sync(program.stop)


@asynccontextmanager
async def gateway_of(folder: Path, one: Storage, **settings: Any) -> AsyncIterator[Backend]:
    async with open_backend(settings_for(folder, **settings), nats=one.stage.nats_url) as backend:
        await backend.wait_ready(within=60)
        yield backend


async def listed(backend: Backend) -> dict[str, str]:
    page = await backend.reads.list_runs(RunFilter(), None, 200)
    return {row.run_id: row.status for row in page.rows}


async def before_the_copy(backend: Backend) -> list[str]:
    await put_runs(backend, [snapshot(f"old{number}") for number in range(5)])
    return [(await backend.submit(NewRun("x", "t"))).run_id for _ in range(4)]


async def behind_the_copy(backend: Backend, run_ids: list[str]) -> None:
    """What is forgotten later: cancels, a deletion and new runs."""
    for run_id in run_ids[:2]:
        await backend.cancel(run_id)
    bucket = KeyValue(backend.connection, "pyoco_runs")
    await bucket.delete(run_ids[2])
    await put_runs(backend, [snapshot(f"lost{number}") for number in range(3)])


async def further(connection: Connection) -> None:
    """Write past all that was seen."""
    bucket = KeyValue(connection, "pyoco_runs")
    for number in range(30):
        run_id = f"new{number % 15}"
        await bucket.put(run_id, msgspec.json.encode(snapshot(run_id)))


async def check(backend: Backend, run_ids: list[str]) -> None:
    """Lists, single runs and counts come to be right."""
    expected = {
        **{f"old{number}": "COMPLETED" for number in range(5)},
        **dict.fromkeys(run_ids, "PENDING"),
        **{f"new{number}": "COMPLETED" for number in range(15)},
    }
    found = None
    with trio.move_on_after(60):
        while found != expected:
            await trio.sleep(0.05)
            if (await backend.readiness()).ready:
                found = await listed(backend)
    assert found == expected
    counts = await backend.reads.count_runs(RunFilter())
    assert counts.counts == {"COMPLETED": 20, "PENDING": 4}
    assert [(await backend.get(run_id)).status for run_id in run_ids] == ["PENDING"] * 4
    with pytest.raises(RunNotFound):
        await backend.get("lost0")


async def test_while_the_gateway_is_down(tmp_path: Path) -> None:
    async with storage(tmp_path) as one:
        async with gateway_of(tmp_path, one) as backend:
            run_ids = await before_the_copy(backend)
        await one.copy()
        async with gateway_of(tmp_path, one) as backend:
            await behind_the_copy(backend, run_ids)
            assert (await listed(backend))[run_ids[0]] == "CANCELLED"
        await one.stop()
        await one.put_back(further)
        async with gateway_of(tmp_path, one) as backend:
            await check(backend, run_ids)


async def test_while_the_gateway_is_away(tmp_path: Path) -> None:
    async with storage(tmp_path) as one, gateway_of(tmp_path, one) as backend:
        run_ids = await before_the_copy(backend)
        await one.copy()
        await backend.wait_ready(within=60)
        await behind_the_copy(backend, run_ids)
        lost = (await backend.submit(NewRun("x", "t"))).run_id
        at_a_client = open_backend(
            settings_for(tmp_path), nats=one.stage.nats_url, gateway="client"
        )
        async with (
            at_a_client as client,
            client.watch(run_ids[0]) as states,
            client.watch(lost) as lost_states,
        ):
            assert (await anext(states)).status == "CANCELLED"
            assert (await anext(lost_states)).status == "PENDING"
            await one.stop()
            await one.put_back(further)
            await check(backend, run_ids)
            with trio.fail_after(60):
                assert (await anext(states)).status == "PENDING"
                assert [state async for state in lost_states] == []


async def test_a_storage_that_only_went_on_is_not_read_anew(tmp_path: Path) -> None:
    async with storage(tmp_path) as one:
        async with gateway_of(tmp_path, one) as backend:
            run_ids = await before_the_copy(backend)
            await behind_the_copy(backend, run_ids)
            seen = await listed(backend)
        async with open_connection(ConnectionOptions(urls=(one.stage.nats_url,))) as connection:
            await connection.wait_connected(within=60)
            bucket = KeyValue(connection, "pyoco_runs")
            # All but the oldest have changed, or are gone without a trace.
            for run_id in (*run_ids[:2], run_ids[3], *(f"lost{number}" for number in range(3))):
                await bucket.put(run_id, msgspec.json.encode(snapshot(run_id)))
        with structlog.testing.capture_logs() as logs:
            async with gateway_of(tmp_path, one) as backend:
                assert set(await listed(backend)) == set(seen)
        assert not [line for line in logs if "anew" in line["event"]]


async def test_keys_and_workers_are_those_of_the_storage(tmp_path: Path) -> None:
    """The gateway is away meanwhile: what it knows was stored behind what it sees next."""
    async with storage(tmp_path) as one, gateway_of(tmp_path, one, **KEYED) as backend:
        revoked, record = await key_for(backend, "a")
        kept, _ = await key_for(backend, "b")
        await put_worker(backend, "shown")
        await one.copy()
        await backend.wait_ready(within=60)
        lost, _ = await key_for(backend, "c")
        await store(backend, msgspec.structs.replace(record, revoked_at=time.time()))
        await bucket_of(backend).put("api_keys.another", b"{}")
        await put_worker(backend, "shown", hidden=True)
        await put_worker(backend, "lost")
        standing = await backend.authenticate(lost)
        await one.stop()

        async def write(connection: Connection) -> None:
            for name in ("auth_kv_bucket", "workers_kv_bucket"):
                bucket = KeyValue(connection, getattr(backend.settings, name))
                for _ in range(9):
                    await bucket.put("api_keys.another", b"{}")

        await one.put_back(write)

        async def matches() -> bool:
            shown = await backend.worker("shown")
            return (
                await admitted(backend, revoked, kept, lost) == [True, True, False]
                and shown is not None
                and not shown.hidden
                and await backend.worker("lost") is None
            )

        with trio.fail_after(60):
            while not await matches():
                await trio.sleep(0.05)
        assert standing.ended.is_set()


async def test_schedules_are_those_of_the_storage(tmp_path: Path) -> None:
    who, hourly = Person(), {"flow_name": "x", "every_sec": 3600}
    async with storage(tmp_path) as one, gateway_of(tmp_path, one) as backend:
        desk = backend.schedules
        for name in ("deleted", "paused", "kept"):
            await desk.create(name, Wish(hourly), who)
        await one.copy()
        await backend.wait_ready(within=30)
        await desk.delete("deleted", who)
        await desk.pause("paused", who)
        await desk.create("lost", Wish(hourly), who)
        await one.stop()

        async def write(connection: Connection) -> None:
            for _ in range(9):
                await KeyValue(connection, "pyoco_schedules").put("schedule.unreadable", b"{}")

        await one.put_back(write)
        found: list[tuple[str, bool]] = []
        with trio.move_on_after(20):
            while found != [("deleted", False), ("kept", False), ("paused", False)]:
                await trio.sleep(0.05)
                found = [(each.schedule_id, each.paused) for each in desk.board.all(lambda _: True)]
        assert found == [("deleted", False), ("kept", False), ("paused", False)]


async def admitted(backend: Backend, *keys: str) -> list[bool | None]:
    """Which keys are let in; None while nobody is."""
    found: list[bool | None] = []
    for key in keys:
        try:
            await backend.authenticate(key)
        except InvalidApiKey:
            found.append(False)
        except KeysUnavailable:
            found.append(None)
        else:
            found.append(True)
    return found
