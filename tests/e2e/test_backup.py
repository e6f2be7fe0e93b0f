"""A whole installation moved by `pyoco-server backup` and `restore`, and a restore killed on the way.

`PYOCO_DRILL_LONG=1` takes 2,000 runs instead of 200.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio

from backend.stage import new_run, settings_for, worker_options
from e2e.programs import BIN
from nats_fixtures import Node, connected, eventually, node_in
from pyoco_server.backend import Backend, open_backend
from pyoco_server.jetstream.inventory import stream_info
from pyoco_server.jetstream.keyvalue import Entry, KeyValue
from pyoco_server.jetstream.objectstore import ObjectStore
from pyoco_server.operations.marker import Phase, read_marker
from tcp_proxy import open_proxy

pytestmark = [pytest.mark.nats, pytest.mark.slow]
RUNS = 2000 if os.environ.get("PYOCO_DRILL_LONG") else 200
QUEUED = RUNS // 4
WHEEL = random.Random(1).randbytes(30 * 1024 * 1024)


async def command(node: Node, *argv: str) -> dict[str, Any]:
    done = await trio.run_process(
        [str(BIN / "pyoco-server"), *argv, "--nats-url", node.url],
        capture_stdout=True,
        env={**os.environ, "PYOCO_LOAD_DOTENV": "0"},
    )
    document: dict[str, Any] = json.loads(done.stdout)
    return document


async def submitted(backend: Backend, count: int) -> list[str]:
    run_ids: list[str] = []

    async def one() -> None:
        run_ids.append((await backend.submit(new_run("quick"))).run_id)

    async with trio.open_nursery() as nursery:
        for _ in range(count):
            nursery.start_soon(one)
    return run_ids


async def drained(backend: Backend) -> None:
    async def empty() -> bool:
        info = await stream_info(backend.connection, "PYOCO_WORK")
        return info is not None and info.state.messages == 0

    await eventually(empty, within=200, what="an empty queue")


async def snapshots(node: Node) -> dict[str, Entry]:
    async with connected(node) as connection:
        with trio.fail_after(60):
            return {e.key: e for e in await KeyValue(connection, "pyoco_runs").all()}


async def pieces() -> AsyncIterator[bytes]:
    yield WHEEL


async def fill(node: Node, folder: Path) -> None:
    """Finished runs, queued ones, and a wheel."""
    settings = settings_for(folder).for_node(node.url)
    async with open_backend(settings, worker=worker_options(folder, slots=2)) as backend:
        await backend.wait_ready(within=60)
        await submitted(backend, RUNS - QUEUED)
        await drained(backend)
    async with open_backend(settings) as backend:
        await backend.wait_ready(within=60)
        await submitted(backend, QUEUED)
        await ObjectStore(backend.connection, "pyoco_wheels").put("w.whl", pieces())


def start_restore(nats_url: str, backup: Path) -> subprocess.Popen[bytes]:
    argv = ["restore", "--in", str(backup), "--confirm", "--nats-url", nats_url]
    return subprocess.Popen([BIN / "pyoco-server", *argv], stdout=subprocess.DEVNULL)


async def kill_on_the_way(node: Node, backup: Path) -> None:
    """Restore, and kill the command while it fills the server."""
    async with connected(node) as connection, open_proxy(node.port) as proxy:
        proxy.most_up = len(WHEEL) // 2  # so that it is still at it, however late the kill comes
        process = start_restore(proxy.nats_url, backup)

        async def filling() -> bool:
            marker = await read_marker(connection)
            return marker is not None and marker.phase == Phase.FILLING

        await eventually(filling, what="a restore on its way")
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        assert await read_marker(connection) is not None
        assert await stream_info(connection, "PYOCO_WORK") is None


async def test_a_backup_moves_everything_and_the_queue_is_drained(tmp_path: Path) -> None:
    backup = tmp_path / "backup.pyoco"
    async with node_in(tmp_path / "old") as old:
        await fill(old, tmp_path)
        made = await command(old, "backup", "--out", str(backup))
        before = await snapshots(old)
    assert len(before) == RUNS
    assert made["streams"]["PYOCO_WORK"] == QUEUED

    async with node_in(tmp_path / "new") as new:
        await kill_on_the_way(new, backup)
        restored = await command(new, "restore", "--in", str(backup), "--confirm")
        assert restored["resumed"]
        assert await snapshots(new) == before  # values, revisions and times

        settings = settings_for(tmp_path).for_node(new.url)
        began = time.monotonic()
        async with open_backend(settings, worker=worker_options(tmp_path, slots=2)) as backend:
            await backend.wait_ready(within=60)
            await drained(backend)
            took = time.monotonic() - began
            store = ObjectStore(backend.connection, "pyoco_wheels")
            async with store.read(await store.info("w.whl")) as chunks:
                assert b"".join([chunk async for chunk in chunks]) == WHEEL
        after = await snapshots(new)
    statuses = {json.loads(entry.value)["status"] for entry in after.values()}
    assert statuses == {"COMPLETED"}
    assert len(after) == RUNS
    print(  # the figures of the long form
        f"\n{RUNS} runs, {made['bytes'] / 1e6:.1f} MB: out {made['seconds']} s, "
        f"in {restored['seconds']} s, {QUEUED} queued runs drained in {took:.1f} s"
    )
