"""Streams and buckets that somebody deletes while everything runs."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from backend.stage import TAG, ended, new_run, settings_for, worker_options
from http_api.gateway import YAML, gateway, yaml_form
from nats_fixtures import eventually
from pyoco_server.backend import Backend, open_backend
from pyoco_server.jetstream.inventory import delete_stream, stream_names
from pyoco_server.jetstream.resources import ensure_resources, expected_streams
from pyoco_server.settings import Settings

STREAMS = [config["name"] for config in expected_streams(Settings())]


async def test_what_is_deleted_is_made_again_and_named_meanwhile(tmp_path: Path) -> None:
    async with gateway(tmp_path) as (client, backend):
        for name in STREAMS:
            assert (await client.get("/health/ready")).status_code == 200
            await delete_stream(backend.connection, name)
            with trio.fail_after(60):
                seen = []
                while (answer := await client.get("/health/ready")).status_code != 200:
                    seen += answer.json()["reasons"]
                    await trio.sleep(0.05)
            assert any(name in reason for reason in seen), (name, seen)
            assert name in await stream_names(backend.connection)
        assert await stream_names(backend.connection) >= set(STREAMS)
        good = await client.post("/runs", json={"flow_name": "quick", "tag": TAG})
        bad = await client.post("/runs", json={"flow_name": "broken", "tag": TAG})
        with trio.fail_after(60):
            assert (await ended(backend, good.json()["run_id"])).status == "COMPLETED"
            assert (await ended(backend, bad.json()["run_id"])).status == "FAILED"
        run_ids = {run["run_id"] for run in (await client.get("/runs")).json()}
        assert run_ids == {good.json()["run_id"], bad.json()["run_id"]}

        async def letters() -> bool:
            return [letter["run_id"] for letter in (await client.get("/dlq")).json()["items"]] == [
                bad.json()["run_id"]
            ]

        await eventually(letters, what="a dead letter")

        async def workers() -> bool:
            return [worker["worker_id"] for worker in (await client.get("/workers")).json()] == [
                "w1"
            ]

        await eventually(workers, what="a worker's record")


@pytest.mark.parametrize("name", ["PYOCO_WORK", "KV_pyoco_runs"])
async def test_nobody_has_to_ask(tmp_path: Path, name: str) -> None:
    async with gateway(tmp_path) as (client, backend):
        await delete_stream(backend.connection, name)

        async def accepted() -> bool:
            answer = await client.post("/runs", json={"flow_name": "quick", "tag": TAG})
            assert answer.status_code in {200, 503}
            if answer.status_code == 503:
                return False
            return (await ended(backend, answer.json()["run_id"])).status == "COMPLETED"

        await eventually(accepted, within=30, what="an accepted run")


async def made_anew(backend: Backend, bucket: str, by_us: bool) -> None:
    """Delete a bucket, and have it made again by the gateway, or by another one that is quicker."""
    await delete_stream(backend.connection, f"KV_{bucket}")
    if not by_us:
        await ensure_resources(backend.connection, backend.settings)
    for _ in range(2):  # the first look may have begun before
        await backend.wait_ready(within=60)


@pytest.mark.parametrize("by_us", [True, False])
async def test_the_flow_yaml_of_a_run_is_written_into_a_bucket_that_was_made_anew(
    tmp_path: Path, by_us: bool
) -> None:
    async with gateway(tmp_path, worker=False) as (client, backend):
        for _ in range(2):
            answer = await client.post("/runs/yaml", **yaml_form())
            run = await client.get(f"/runs/{answer.json()['run_id']}")
            assert await backend.workflows.get(run.json()["workflow_yaml_sha256"]) is not None
            await made_anew(backend, backend.settings.workflows_kv_bucket, by_us)


@pytest.mark.parametrize("by_us", [True, False])
async def test_the_flow_yaml_of_a_schedule_is_written_into_a_bucket_that_was_made_anew(
    tmp_path: Path, by_us: bool
) -> None:
    body = {"flow_name": "main", "tag": TAG, "cron": "0 0 1 1 *", "workflow_yaml": YAML.decode()}
    async with gateway(tmp_path, worker=False) as (client, backend):
        for _ in range(2):
            made = await client.put("/schedules/s", json=body)
            assert made.status_code == 200, made.text
            assert await backend.schedules.flow_text(made.json()["workflow_yaml_sha256"])
            await made_anew(backend, backend.settings.schedules_kv_bucket, by_us)


async def test_a_dead_letter_waits_for_its_stream(tmp_path: Path) -> None:
    async with gateway(tmp_path) as (client, backend):
        await delete_stream(backend.connection, "PYOCO_DLQ")
        run_id = (await backend.submit(new_run("broken"))).run_id
        assert (await ended(backend, run_id)).status == "FAILED"

        async def letters() -> list[str]:
            answer = await client.get("/dlq")
            items = answer.json()["items"] if answer.status_code == 200 else []
            return [letter["run_id"] for letter in items]

        assert await eventually(letters) == [run_id]


async def test_a_worker_makes_them_again_where_there_is_no_gateway(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pyoco_server.backend.opening._WORKER_LOOK_SECONDS", 0.2)
    async with open_backend(
        settings_for(tmp_path), nats="embedded", gateway=False, worker=worker_options(tmp_path)
    ) as backend:
        await delete_stream(backend.connection, "PYOCO_WORK")

        async def there() -> bool:
            return "PYOCO_WORK" in await stream_names(backend.connection)

        await eventually(there)
