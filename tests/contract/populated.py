"""A gateway where there is one of everything, all of it one tenant's."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass

import httpx
import msgspec
import trio

from http_api.keyed import as_key, submitted
from http_api.seeding import put_runs, put_worker, snapshot
from pyoco_server.backend import Backend
from pyoco_server.jetstream.publish import publish_acked
from pyoco_server.model.dead_letter import (
    DeadLetter,
)
from pyoco_server.model.json_text import encode_json
from wheels.making import file_name, wheel_bytes

WORKER = "w1"
WHEEL = file_name("secret", "1.0")
SCHEDULE = "secret-schedule"
ARTIFACT = "reports/secret.txt"
TASK = "count"
CONTENT = b"what the run saved"


@dataclass(frozen=True)
class Population:
    """Names of what there is."""

    key: str
    ended: str
    pending: str
    letter: int
    worker: str = WORKER
    wheel: str = WHEEL
    artifact: str = ARTIFACT
    task: str = TASK
    schedule: str = SCHEDULE


async def populate(
    client: httpx.AsyncClient, backend: Backend, key: str, tenant: str
) -> Population:
    """Make one of everything that a tenant can have; ``key`` is its admin's."""
    await put_worker(backend, WORKER, slots=[{"index": 0}])
    ended = "5ec2e700-0000-4000-8000-000000000001"
    artifact = await backend.artifacts.keep(ended, 1, ARTIFACT, pieces(), "a")
    await put_runs(
        backend,
        [
            snapshot(
                ended,
                status="FAILED",
                flow_name="secret",
                tenant_id=tenant,
                error="secret error",
                worker_id=WORKER,
                attempt=1,
                artifacts=[msgspec.to_builtins(artifact)],
                tasks={TASK: "SUCCEEDED"},
                task_records={TASK: {"state": "SUCCEEDED", "output": "secret"}},
            )
        ],
    )
    pending = await submitted(client, key)
    uploaded = await client.post(
        "/wheels", files={"wheel": (WHEEL, wheel_bytes("secret", "1.0"))}, headers=as_key(key)
    )
    assert uploaded.status_code == 200, uploaded.text
    made = await client.post(
        "/schedules",
        json={"schedule_id": SCHEDULE, "flow_name": "secret", "cron": "0 0 1 1 *"},
        headers=as_key(key),
    )
    assert made.status_code == 200, made.text
    return Population(key, ended, pending, await write_letter(backend, ended, tenant))


async def write_letter(backend: Backend, run_id: str, tenant: str) -> int:
    """Store a dead letter that tells all that it takes to run its run again."""
    letter = DeadLetter(
        timestamp=time.time(),
        reason="execution_error",
        error="secret error",
        run_id=run_id,
        flow_name="secret",
        tag="hello",
        tenant_id=tenant,
        params={},
    )
    ack = await publish_acked(backend.connection, "pyoco.dlq.hello", encode_json(letter))
    return ack.seq


async def pieces() -> AsyncGenerator[bytes, None]:
    yield CONTENT
    await trio.lowlevel.checkpoint()
