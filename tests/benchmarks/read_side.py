"""How fast a gateway reads: a process of its own, over real HTTP, with many runs in the bucket."""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import Any

import httpx
import msgspec
import trio

from e2e.programs import Stage
from http_api.seeding import snapshot
from pyoco_server.jetstream.connection import ConnectionOptions, open_connection
from pyoco_server.jetstream.keyvalue import KeyValue
from pyoco_server.jetstream.resources import ensure_resources
from pyoco_server.settings import Settings

STATUSES = ("COMPLETED", "COMPLETED", "COMPLETED", "FAILED", "CANCELLED", "RUNNING")
QUERIES = {
    "page of 50": "/runs?cursor=",
    "bare list": "/runs",
    "by status": "/runs?cursor=&status=FAILED",
    "by status and flow": "/runs?cursor=&status=FAILED&flow=flow3",
    "by text": "/runs?cursor=&q=broke%20at%2010",
    "by id": "/runs?cursor=&q=00000077",
    "counts": "/runs/counts",
    "stats": "/stats",
    "metrics": "/metrics",
}


def many(first: int, count: int) -> list[dict[str, Any]]:
    """Runs as they pile up: ended ones of some flows and tags, a tenth of them with an error."""
    now = time.time()
    return [
        snapshot(
            f"{number:08d}-3f2a-4c5e-9d1b-7a6c5b4d3e2f",
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


async def fill(stage: Stage, first: int, count: int) -> None:
    """Write runs into the bucket, without a gateway."""
    settings = Settings(nats_url=stage.nats_url)
    async with open_connection(ConnectionOptions(urls=(stage.nats_url,))) as connection:
        await connection.wait_connected(within=20)
        await ensure_resources(connection, settings)
        bucket = KeyValue(connection, settings.runs_kv_bucket)
        runs = iter(many(first, count))

        async def write() -> None:
            for one in runs:
                await bucket.put(one["run_id"], msgspec.json.encode(one), within=60)

        async with trio.open_nursery() as nursery:
            for _ in range(128):
                nursery.start_soon(write)


def started(stage: Stage, *, cold: bool) -> tuple[float, Any]:
    """Start a gateway; return how many seconds it took to be ready, and the program."""
    folder = stage.folder / ".pyoco" / "read_model"
    if cold and folder.exists():
        for file in folder.iterdir():
            file.unlink()
    began = time.monotonic()
    program = stage.start(
        "pyoco-server", "up", "--port", str(stage.http_port), "--nats-url", stage.nats_url
    )
    with httpx.Client(base_url=stage.url, timeout=5) as client:
        while True:
            try:
                if client.get("/health/ready").status_code == 200:
                    return time.monotonic() - began, program
            except httpx.HTTPError:
                pass
            time.sleep(0.01)


def medians(url: str, repeats: int) -> dict[str, float]:
    """The median answer time of each query, in milliseconds, one after the other on one connection."""
    found: dict[str, float] = {}
    with httpx.Client(base_url=url, timeout=30) as client:
        for name, query in QUERIES.items():
            times: list[float] = []
            for _ in range(repeats):
                began = time.perf_counter()
                answer = client.get(query)
                times.append((time.perf_counter() - began) * 1000)
                assert answer.status_code == 200, answer.text
            found[name] = statistics.median(times)
    return found


def memory_mib(pid: int) -> float:
    """The resident memory of a process."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise AssertionError(f"no memory of process {pid}")
