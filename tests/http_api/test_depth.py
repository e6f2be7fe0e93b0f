"""How deep params may be nested: as deep in JSON as in YAML, and whatever is stored can be read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from backend.stage import TAG, ended, queued
from http_api.gateway import YAML, gateway, yaml_form
from http_api.seeding import indexed, snapshot
from pyoco_server.jetstream.keyvalue import KeyValue
from pyoco_server.model.json_text import MAX_DEPTH
from pyoco_server.model.run import RunStatus


def nested(levels: int) -> str:
    """Params of so many levels, as JSON and as YAML."""
    return '{"x": ' + "[" * (levels - 1) + "]" * (levels - 1) + "}"


async def submitted(client: httpx.AsyncClient, way: str, levels: int) -> httpx.Response:
    params = nested(levels)
    run = f'{{"flow_name": "main", "tag": "{TAG}", "params": {params}'
    text = YAML.replace(b"{x: 1}", params.encode())
    match way:
        case "json":
            return await client.post("/runs", content=run.encode() + b"}")
        case "yaml":
            return await client.post("/runs/yaml", **yaml_form(text))
        case _:
            return await client.post("/runs/batch", content=f'{{"runs": [{run}}}]}}'.encode())


@pytest.mark.parametrize("way", ["json", "yaml", "batch"])
async def test_params_are_taken_up_to_one_depth(tmp_path: Path, way: str) -> None:
    async with gateway(tmp_path, worker=False) as (client, backend):
        answer = (await submitted(client, way, MAX_DEPTH)).json()
        run_id = answer["items"][0]["run_id"] if way == "batch" else answer["run_id"]
        run = await client.get(f"/runs/{run_id}")
        assert run.json()["params"] == json.loads(nested(MAX_DEPTH))
        for levels in (MAX_DEPTH + 1, 973, 976, 5_000, 100_000):
            refused = await submitted(client, way, levels)
            error = refused.json()
            if way == "batch" and refused.status_code == 200:
                error = error["items"][0]["error"]
            assert error["status"] == 422
            # A file of thousands of levels is refused by the parser's own limit.
            assert str(MAX_DEPTH) in error["reason"] or "maximum nesting depth" in error["reason"]
        assert await queued(backend) == 1


@pytest.mark.parametrize("levels", [MAX_DEPTH + 1, 900, 973, 976, 2_000])
async def test_what_an_earlier_version_took_is_read_and_ends(tmp_path: Path, levels: int) -> None:
    async with gateway(tmp_path, worker=False) as (client, backend):
        bucket = KeyValue(backend.connection, backend.settings.runs_kv_bucket)
        seq = 0
        for status in ("COMPLETED", "PENDING"):
            began = None if status == "PENDING" else 1.0
            fields = snapshot(status, status=status, start_time=began, params="DEEP")
            stored = json.dumps(fields)
            raw = stored.replace('"DEEP"', nested(levels)).encode()
            seq = await bucket.put(status, raw)
        await indexed(backend, seq)
        listed = (await client.get("/runs", params={"limit": 9})).json()
        assert {run["run_id"]: run["status"] for run in listed} == {
            "PENDING": "PENDING",
            "COMPLETED": "COMPLETED",
        }
        full = await client.get("/runs", params={"include": "full"})
        assert full.status_code == 200
        for path in ("", "/tasks"):
            assert (await client.get(f"/runs/COMPLETED{path}")).status_code == 200
        cancelled = await client.post("/runs/PENDING/cancel")
        assert cancelled.status_code == 200
        assert cancelled.json()["status"] in {"CANCELLING", "CANCELLED"}
        again = await client.post("/runs/COMPLETED/retry")
        assert again.status_code in {200, 409}


async def test_a_job_that_is_nested_too_deeply_ends_its_run(tmp_path: Path) -> None:
    """As 0.5.1 takes it from a client."""
    async with gateway(tmp_path) as (_, backend):
        fields: dict[str, Any] = {"run_id": "deep", "flow_name": "quick", "tag": TAG}
        bucket = KeyValue(backend.connection, backend.settings.runs_kv_bucket)
        pending = json.dumps(snapshot("deep", status="PENDING", params="DEEP", attempt=0))
        await bucket.put("deep", pending.replace('"DEEP"', nested(5_000)).encode())
        job = json.dumps({**fields, "params": "DEEP"}).replace('"DEEP"', nested(5_000))
        await backend.connection.request(f"pyoco.work.{TAG}", job.encode(), within=60)
        run = await ended(backend, "deep")
        assert (run.status, run.reason) == (RunStatus.FAILED, "invalid_job")
