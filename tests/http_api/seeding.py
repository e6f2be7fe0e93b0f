"""Puts runs and workers into the buckets as other programs would have written them."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

import msgspec
import trio

from pyoco_server.backend import Backend
from pyoco_server.jetstream.keyvalue import KeyValue


def snapshot(run_id: str, **changes: Any) -> dict[str, Any]:
    """A snapshot as JSON values."""
    now = time.time()
    return {
        "run_id": run_id,
        "flow_name": "main",
        "status": "COMPLETED",
        "tag": "hello",
        "tags": ["hello"],
        "params": {},
        "tasks": {"a": "SUCCEEDED"},
        "task_records": {"a": {"state": "SUCCEEDED", "output": 1}},
        "submitted_at": now - 3,
        "start_time": now - 2,
        "end_time": now - 1,
        "heartbeat_at": now - 1,
        "updated_at": now,
        **changes,
    }


async def put_runs(backend: Backend, snapshots: Iterable[dict[str, Any]]) -> None:
    """Write snapshots, hundreds at a time, and wait until lists have them."""
    bucket = KeyValue(backend.connection, backend.settings.runs_kv_bucket)
    limit = trio.CapacityLimiter(256)
    last = 0

    async def put(one: dict[str, Any]) -> None:
        nonlocal last
        async with limit:
            revision = await bucket.put(one["run_id"], msgspec.json.encode(one), within=60)
            last = max(last, revision)  # of all of them: others were put meanwhile

    async with trio.open_nursery() as nursery:
        for one in snapshots:
            nursery.start_soon(put, one)
    await indexed(backend, last)


async def indexed(backend: Backend, seq: int, within: float = 60) -> None:
    """Wait until the read model has everything up to a revision."""
    with trio.fail_after(within):
        await backend.reads.indexer.reached(seq)


async def put_worker(backend: Backend, worker_id: str, **changes: Any) -> None:
    """Write a worker's record, and wait until the gateway knows it."""
    now = time.time()
    record = {
        "worker_id": worker_id,
        "instance_id": worker_id,
        "state": "IDLE",
        "hidden": False,
        "tags": ["hello"],
        "last_seen_at": now,
        "last_heartbeat_at": now,
        "heartbeat_at": now,
        "updated_at": now,
        **changes,
    }
    bucket = KeyValue(backend.connection, backend.settings.workers_kv_bucket)
    await bucket.put(worker_id, msgspec.json.encode(record))
    with trio.fail_after(60):
        while True:
            known = await backend.worker(worker_id)
            if known is not None and known.last_seen_at == record["last_seen_at"]:
                return
            await trio.sleep(0.005)
