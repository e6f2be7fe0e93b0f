"""Measures how a gateway reads: a process of its own, over real HTTP, with many runs in the bucket."""

from __future__ import annotations

import os
import random
import statistics
import time
import uuid
from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import msgspec
import trio

from benchmarks.figures import OURS, Measures
from benchmarks.processes import memory_mib
from benchmarks.pyoco import Version, open_installation
from benchmarks.sizes import Sizes
from benchmarks.wire import Wire, get
from e2e.programs import HTTP, Program, Stage, wait_for
from http_api.seeding import snapshot
from pyoco_server.jetstream.connection import ConnectionOptions, open_connection
from pyoco_server.jetstream.keyvalue import KeyValue
from pyoco_server.jetstream.resources import ensure_resources
from pyoco_server.settings import Settings

WHOLE = os.environ.get("PYOCO_BENCHMARK") == "whole"
"""Whether limits are held in milliseconds and at full size, which takes a machine that does nothing else."""

STATUSES = ("COMPLETED", "COMPLETED", "COMPLETED", "FAILED", "CANCELLED", "RUNNING")
PAGES = {
    "page of 50": "/runs?cursor=",
    "bare list": "/runs",
    "by status": "/runs?cursor=&status=FAILED",
    "ten by status and flow": "/runs?cursor=&status=FAILED&flow=flow3&limit=10",
    "by tag": "/runs?cursor=&tag=tag2",
    "by worker": "/runs?cursor=&worker_id=w3",
    "counts": "/runs/counts",
    "metrics": "/metrics",
}
"""What has to cost the same however many runs there are; each has a full page of them among a thousand."""
SEARCHES = {"by text": "/runs?cursor=&q=broke%20at%2010", "by id": "/runs?cursor=&q={some_id}"}


def run_id_of(number: int) -> str:
    """The id of the run with a number: random, but the same each time."""
    return str(uuid.UUID(int=random.Random(number).getrandbits(128), version=4))


def many(first: int, count: int) -> list[dict[str, Any]]:
    """Runs as they pile up: ended ones of some flows and tags, a sixth of them with an error."""
    now = time.time()
    return [
        snapshot(
            run_id_of(number),
            flow_name=f"flow{number % 20}",
            tag=f"tag{number % 5}",
            status=STATUSES[number % 6],
            error=f"ValueError: it broke at {number}" if number % 6 == 3 else None,
            worker_id=f"w{number % 8}",
            submitted_at=now - 7200 + number % 7000,
            start_time=now - 7199 + number % 7000,
            end_time=now - 7190 + number % 7000,
            updated_at=now - 7190 + number % 7000,
        )
        for number in range(first, first + count)
    ]


def fill(stage: Stage, count: int, first: int = 0) -> None:
    """Write runs into the bucket, those from ``first`` to ``count``, without a gateway."""

    async def write_all() -> None:
        settings = Settings(nats_url=stage.nats_url)
        async with open_connection(ConnectionOptions(urls=(stage.nats_url,))) as connection:
            await connection.wait_connected(within=20)
            await ensure_resources(connection, settings)
            bucket = KeyValue(connection, settings.runs_kv_bucket)
            runs = iter(many(first, count - first))

            async def write() -> None:
                for one in runs:
                    await bucket.put(one["run_id"], msgspec.json.encode(one), within=60)

            async with trio.open_nursery() as nursery:
                for _ in range(128):
                    nursery.start_soon(write)

    trio.run(write_all)


def started(stage: Stage) -> tuple[float, Program]:
    """Start a gateway; return how many seconds it took to be ready, and the program."""
    began = time.monotonic()
    program = stage.start(
        "pyoco-server", "up", "--port", str(stage.http_port), "--nats-url", stage.nats_url
    )
    with httpx.Client(base_url=stage.url, timeout=5) as client:
        while time.monotonic() < began + 60:
            try:
                if client.get("/health/ready").status_code == 200:
                    return time.monotonic() - began, program
            except httpx.HTTPError:
                pass
            time.sleep(0.01)
    raise AssertionError(f"not ready within a minute:\n{program.text()}")


def answer_times(
    ports: Mapping[str, int], queries: Mapping[str, str], repeats: int
) -> dict[str, dict[str, list[float]]]:
    """How long each gateway took for each answer to each query, in milliseconds.

    The gateways are asked in turn, so that whatever else the machine does slows all of them.
    """
    times: dict[str, dict[str, list[float]]] = {q: {name: [] for name in ports} for q in queries}
    with ExitStack() as stack:
        wires = {name: stack.enter_context(Wire(port)) for name, port in ports.items()}
        for _ in range(repeats):
            for query, path in queries.items():
                for name, wire in wires.items():
                    began = time.perf_counter()
                    wire.ask(get(path))
                    times[query][name].append((time.perf_counter() - began) * 1000)
    return times


def reading(version: Version, folder: Path, sizes: Sizes) -> Measures:
    """Lists and metrics with ever more runs; of 0.5.1, which looks at each of them, up to ten thousand."""
    queries = {"list": PAGES["page of 50"], "filtered": PAGES["by status"], "metrics": "/metrics"}
    ours = version.name == OURS
    found: dict[str, float] = {}
    with open_installation(version, folder) as installation:
        filled = 0
        for count in sizes.runs if ours else [n for n in sizes.runs if n <= 10_000]:
            fill(installation.stage, count, first=filled)
            filled = count
            if ours:
                wait_for(partial(_knows, installation.stage, count), within=120, what="all runs")
            installation.wait_calm()
            repeats = sizes.looks if ours else 3
            took = answer_times({"": installation.port}, queries, repeats)
            found |= {f"read.{q}.{count}": statistics.median(of[""]) for q, of in took.items()}
        found["memory.filled"] = memory_mib(installation.gateway.pid)
    return found


def _knows(stage: Stage, count: int) -> bool:
    return bool(HTTP.get(f"{stage.url}/runs/counts").json()["total"] == count)
