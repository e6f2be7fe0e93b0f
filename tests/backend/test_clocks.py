"""Machines whose clocks are minutes apart: only the server's counts."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from backend.stage import TAG, ended, limited, settings_for, worker_options
from e2e.programs import BIN
from http_api.gateway import gateway
from http_api.seeding import put_worker
from nats_fixtures import ConnectionOptions, eventually
from pyoco_server.backend import Backend, open_backend
from pyoco_server.jetstream.connection import Connection, open_connection
from pyoco_server.jetstream.inventory import stream_info
from pyoco_server.model.worker import WorkerRecord, last_sign

WRONG = """\
import runpy, sys, time
real = time.time
time.time = lambda: real() + {ahead}
sys.argv[0] = "pyoco-worker"
runpy.run_path({script!r}, run_name="__main__")
"""


@asynccontextmanager
async def worker_of_another_time(
    backend: Backend, folder: Path, ahead: float
) -> AsyncIterator[None]:
    """A worker process whose wall clock is wrong."""
    worker_options(folder)
    program = folder / "worker.py"
    program.write_text(WRONG.format(ahead=ahead, script=str(BIN / "pyoco-worker")))
    assert backend.node is not None
    command = [
        *(str(BIN / "python"), str(program), "--nats-url", backend.node.url),
        *("--tags", TAG, "--worker-id", "elsewhere", "--flow-resolver", "flows.py:resolve"),
    ]
    process = await trio.lowlevel.open_process(command, cwd=folder)
    try:
        yield
    finally:
        process.kill()
        await process.wait()


@pytest.mark.parametrize("ahead", [-600.0, 600.0])
async def test_a_retry_waits_as_long_as_it_is_told_to(tmp_path: Path, ahead: float) -> None:
    """The first attempt is at a worker of one time, the second one at a worker of another."""
    async with gateway(tmp_path, worker=False, worker_heartbeat_interval_sec=0.2) as (
        client,
        backend,
    ):
        run = await backend.submit(limited("flaky", max_attempts=2, retry_backoff_sec=1.0))
        async with worker_of_another_time(backend, tmp_path, ahead):

            async def tried() -> bool:
                return bool((await backend.get(run.run_id)).attempts)

            await eventually(tried, within=60, what="the first attempt")
            state = (await client.get("/workers")).json()
            assert [(each["worker_id"], each["state"] != "DISCONNECTED") for each in state] == [
                ("elsewhere", True)
            ]
        began = trio.current_time()
        async with open_backend(
            backend.settings_with_node(), gateway=False, worker=worker_options(tmp_path)
        ):
            with trio.fail_after(120):
                state = await ended(backend, run.run_id)
        assert state.status == "COMPLETED"
        assert trio.current_time() - began < 120
        assert state.start_time is not None
        assert abs(state.start_time - time.time()) < 60


async def test_a_gateway_with_a_wrong_clock_sees_who_is_alive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with gateway(tmp_path) as (client, backend):
        await eventually(lambda: _listed(client), what="a worker")
        await put_worker(backend, "dead", last_seen_at=time.time() - 60)
        for ahead in (600.0, -600.0):
            real = time.time
            with monkeypatch.context() as patch:
                patch.setattr(time, "time", lambda ahead=ahead, real=real: real() + ahead)
                workers = (await client.get("/workers?scope=all")).json()
                states = {each["worker_id"]: each["state"] for each in workers}
            assert states == {"w1": "IDLE", "dead": "DISCONNECTED"}


async def _listed(client: Any) -> bool:
    return bool((await client.get("/workers")).json())


def test_what_the_operator_writes_is_no_sign_of_life() -> None:
    record = WorkerRecord(worker_id="w", instance_id="i", last_seen_at=1000.0, updated_at=1000.0)
    assert last_sign(record, 400.0) == 400.0
    assert last_sign(record, 1600.0) == 1600.0
    hidden = WorkerRecord(worker_id="w", instance_id="i", last_seen_at=1000.0, updated_at=5000.0)
    assert last_sign(hidden, 5000.1) == 1000.0
    put_there = WorkerRecord(worker_id="w", instance_id="i", last_seen_at=1000.0)
    assert last_sign(put_there, 5000.0) == 1000.0


async def test_the_servers_time_is_told_with_a_stream(tmp_path: Path) -> None:
    async with open_backend(settings_for(tmp_path), nats="embedded", gateway="client") as backend:
        own = backend.connection.clock
        assert own.known
        # Each answer tells it anew, and one that was long under way less exactly.
        await eventually(lambda: _near(backend.connection, own.now, time.time, 1.0))
        url = backend.connection.status.server
        assert url is not None
        async with open_connection(ConnectionOptions(urls=(url,))) as other:
            await other.wait_connected(within=60)
            assert not other.clock.known
            assert await stream_info(other, "NONE") is None
            assert not other.clock.known
            await stream_info(other, "KV_pyoco_runs")
            assert other.clock.known
            await eventually(lambda: _near(other, other.clock.now, own.now, 0.5))


async def _near(
    connection: Connection, one: Callable[[], float], other: Callable[[], float], seconds: float
) -> bool:
    """Whether two clocks are so near to each other, after a further answer of the server."""
    await stream_info(connection, "KV_pyoco_runs")
    return abs(one() - other()) < seconds


@pytest.mark.parametrize("ahead", [-600.0, 600.0])
async def test_times_of_runs_are_those_of_the_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ahead: float
) -> None:
    """Of a gateway whose machine's clock is wrong nothing starts, expires or is late at another moment."""
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + ahead)
    async with gateway(tmp_path, worker=worker_options(tmp_path)) as (client, backend):

        async def submit(**times: Any) -> str:
            answer = await client.post("/runs", json={"flow_name": "quick", "tag": TAG, **times})
            assert answer.status_code == 200, answer.text
            return str(answer.json()["run_id"])

        later = await submit(start_at=real() + 4.0, expected_start_within_sec=60)
        delayed = await submit(delay_sec=2.0, queue_ttl_sec=60)
        kept = await submit(start_at=real() + 300, expires_at=real() + 400)
        for run_id in (later, delayed):
            run = await ended(backend, run_id)
            assert run.status == "COMPLETED"
            assert run.start_time is not None
            assert run.scheduled_for
            assert -0.1 <= run.start_time - run.scheduled_for < 30
            assert abs(run.start_time - real()) < 30
            assert not run.late
        await backend.cancel(kept)
        nobody = await client.post(
            "/runs", json={"flow_name": "quick", "tag": "nobody", "queue_ttl_sec": 0.5}
        )
        run = await ended(backend, nobody.json()["run_id"])
        assert run.reason == "expired"
        assert (await backend.get(kept)).start_time is None
