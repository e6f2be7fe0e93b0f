"""Measures how a gateway reads: a process of its own, over real HTTP, with many runs in the bucket."""

from __future__ import annotations

import os
import random
import time
import uuid
from collections.abc import Mapping
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import httpx
import msgspec
import trio

from e2e.programs import Program, Stage
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


def fill(stage: Stage, count: int) -> None:
    """Write runs into the bucket, without a gateway."""

    async def write_all() -> None:
        settings = Settings(nats_url=stage.nats_url)
        async with open_connection(ConnectionOptions(urls=(stage.nats_url,))) as connection:
            await connection.wait_connected(within=20)
            await ensure_resources(connection, settings)
            bucket = KeyValue(connection, settings.runs_kv_bucket)
            runs = iter(many(0, count))

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
    urls: Mapping[str, str], queries: Mapping[str, str], repeats: int
) -> dict[str, dict[str, list[float]]]:
    """How long each gateway took for each answer to each query, in milliseconds.

    The gateways are asked in turn, so that whatever else the machine does slows all of them.
    """
    times: dict[str, dict[str, list[float]]] = {q: {u: [] for u in urls} for q in queries}
    # The standard library's client, which takes least of the time that is measured.
    clients = {
        name: HTTPConnection(url.removeprefix("http://"), timeout=60) for name, url in urls.items()
    }
    try:
        for client in clients.values():
            client.connect()
        for _ in range(repeats):
            for query, path in queries.items():
                for name, client in clients.items():
                    began = time.perf_counter()
                    client.request("GET", path)
                    answer = client.getresponse()
                    body = answer.read()
                    times[query][name].append((time.perf_counter() - began) * 1000)
                    assert answer.status == 200, body
    finally:
        for client in clients.values():
            client.close()
    return times


def processor_ms(*programs: Program) -> float:
    """How much processor time programs have taken since they were started, in milliseconds."""
    ticks = 0
    for program in programs:
        stat = Path(f"/proc/{program.pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(stat[11]) + int(stat[12])
    return ticks / os.sysconf("SC_CLK_TCK") * 1000


def memory_mib(pid: int) -> float:
    """The resident memory of a process."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise AssertionError(f"no memory of process {pid}")
