"""What pyoco-server 0.5.1 did wrong with wheels (RELIABILITY.md, faults 15, 16 and 22)."""

from __future__ import annotations

import importlib.metadata
import os
from pathlib import Path

import pytest

from backend.stage import ended
from http_api.gateway import gateway
from wheels.making import file_name, wheel_bytes
from wheels.stage import PACKAGE, new_run, synced, syncing, told, upload_version

pytestmark = pytest.mark.nats


async def test_fault_15_a_wheel_stays_out_of_the_workers_own_environment(tmp_path: Path) -> None:
    async with syncing(tmp_path) as backend:
        await upload_version(backend, "1.0")
        await synced(backend, file_name(PACKAGE, "1.0"))
        run = await ended(backend, (await backend.submit(new_run())).run_id)
    assert told(run) == ["1.0"] * 3
    # The worker is this process: 0.5.1 would have installed here.
    with pytest.raises(importlib.metadata.PackageNotFoundError):
        importlib.metadata.version(PACKAGE)


async def test_fault_16_one_wheels_limit_is_not_that_of_all(tmp_path: Path) -> None:
    wheels = {
        file_name(package): wheel_bytes(package, files={"data": os.urandom(50_000)}, compress=False)
        for package in ("one", "two", "three")
    }
    limit = max(map(len, wheels.values()))
    async with gateway(tmp_path, worker=False, wheel_max_bytes=limit) as (client, _):
        for name, data in wheels.items():
            answer = await client.post("/wheels", files={"wheel": (name, data)})
            assert answer.status_code == 200, answer.text
        kept = (await client.get("/wheels")).json()
        assert {wheel["name"]: wheel["size_bytes"] for wheel in kept} == {
            name: len(data) for name, data in wheels.items()
        }
        larger = wheel_bytes("four", files={"data": os.urandom(100_000)}, compress=False)
        refused = await client.post("/wheels", files={"wheel": (file_name("four"), larger)})
        assert refused.status_code == 413


async def test_fault_22_sixteen_bytes_of_garbage_are_no_wheel(tmp_path: Path) -> None:
    async with gateway(tmp_path, worker=False) as (client, _):
        answer = await client.post("/wheels", files={"wheel": (file_name(), os.urandom(16))})
        assert (answer.status_code, answer.json()["detail"]) == (422, "invalid wheel archive")
        assert (await client.get("/wheels")).json() == []
