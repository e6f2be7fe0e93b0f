"""What a task returned is kept whole, beside the snapshot where that has no room, and read on every face."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import httpx
import pytest
import trio

from artifacts.saving import run, saving, stored
from backend.stage import TAG, ended, eventually, worker_options
from commands.calling import caught
from http_api.gateway import gateway
from pyoco_cli.client import main
from pyoco_server.backend import Backend
from pyoco_server.client import AsyncPyocoHttpClient
from pyoco_server.gateway.artifact_keeper import sweep_artifacts
from pyoco_server.gateway.new_run import NewRun
from pyoco_server.jetstream.keyvalue import KeyValue
from pyoco_server.model.run import RunSnapshot
from pyoco_server.store.runs import RunNotFound

pytestmark = pytest.mark.nats

TASKS = """\
import datetime
import os
import resource


def large(size=0):
    return ["x" * 99] * (size // 100)


def large_without_room(size=0):
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, most))
    return large(size)


def cut():
    (name,) = os.listdir(".pyoco-results")
    os.truncate(f".pyoco-results/{name}", 1000)


def small():
    return {"n": 1}


def odd():
    return {"day": datetime.date(2026, 1, 2), "raw": b"\\x00\\xff"}


def deep():
    value = []
    for _ in range(80):
        value = [value]
    return value


def hide(size=0):
    os.mkdir("elsewhere")
    os.symlink(os.getcwd() + "/elsewhere", ".pyoco-results")
    return "x" * size
"""


async def kept(backend: Backend, run: RunSnapshot, task: str = "it") -> object:
    """The value of a result that is kept beside a run, compared with what the snapshot tells of it."""
    result, info = await backend.artifacts.find_result(run, task)
    data = bytearray()
    async with backend.artifacts.read(info) as pieces:
        async for piece in pieces:
            data += piece
    assert result.size_bytes == len(data)
    assert result.sha256_hex == hashlib.sha256(data).hexdigest()
    return json.loads(data)


async def test_a_large_result_is_kept_with_its_run_and_a_small_one_costs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pyoco_server.gateway.tree._ARTIFACTS_SECONDS", 0.2)
    async with saving(tmp_path, TASKS, runs_ttl_sec=12.0) as backend:
        done = await run(backend, "large", size=1_000_000)
        assert (done.status, done.artifacts) == ("COMPLETED", [])
        assert done.task_records["it"].output.startswith("<1020001 bytes of JSON")
        assert await kept(backend, done) == ["x" * 99] * 10_000
        objects = await stored(backend)
        small = await run(backend, "small")
        assert (small.task_records["it"].output, small.results) == ({"n": 1}, [])
        assert await stored(backend) == objects
        # Only now: what is being written would look like what nothing lists.
        monkeypatch.setattr("pyoco_server.gateway.artifact_keeper._SETTLED_SECONDS", 0.0)

        async def nothing_stored() -> bool:
            return await stored(backend) == []

        await eventually(nothing_stored, what="nothing of a run that is gone")
        with pytest.raises(RunNotFound):
            await backend.get(done.run_id)


async def test_files_of_a_run_that_cannot_be_read_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pyoco_server.gateway.artifact_keeper._SETTLED_SECONDS", 0.0)
    async with saving(tmp_path, TASKS) as backend:
        done = await run(backend, "large", size=1_000_000)
        objects = await stored(backend)
        runs = KeyValue(backend.connection, "pyoco_runs")
        await runs.put(done.run_id, b'{"flow_name": "f", "status": "OF A LATER VERSION"}')
        assert await sweep_artifacts(backend.artifacts, backend._runs, max_age=0) == 0
        assert await stored(backend) == objects
        # The limit of their age holds all the same.
        assert await sweep_artifacts(backend.artifacts, backend._runs, max_age=1e-9) == 1
        assert await stored(backend) == []


async def test_a_result_that_nearly_fills_a_snapshot_is_kept_beside_it(tmp_path: Path) -> None:
    """The snapshot would be too large with it and what else it has, and lose all records."""
    async with saving(tmp_path, TASKS) as backend:
        done = await run(backend, "large", size=257_000)
        assert done.task_records["it"].output.startswith("<262141 bytes of JSON, left out")
        assert await kept(backend, done) == ["x" * 99] * 2_570


@pytest.mark.parametrize(
    ("limits", "task", "why"),
    [
        ({"result_max_bytes": 400_000}, "large", "PYOCO_RESULT_MAX_BYTES"),
        ({"artifact_run_max_bytes": 400_000}, "large", "PYOCO_ARTIFACT_RUN_MAX_BYTES"),
        ({}, "hide", "it cannot be read"),
        ({}, "large_without_room", "it was not written whole: no room on the worker's disk"),
    ],
)
async def test_a_result_that_is_not_kept_says_why(
    tmp_path: Path, limits: dict[str, int], task: str, why: str
) -> None:
    async with saving(tmp_path, TASKS, **limits) as backend:
        done = await run(backend, task, size=1_000_000)
        assert done.status == "COMPLETED"
        (result,) = done.results
        assert why in (result.refused or "")
        assert await stored(backend) == []


async def test_a_result_that_is_not_as_long_as_it_was_is_not_kept(tmp_path: Path) -> None:
    async with saving(tmp_path, TASKS) as backend:
        text = (
            "flow: {graph: it >> cut}\n"
            "tasks: {it: {callable: 'saver:large'}, cut: {callable: 'saver:cut'}}\n"
        )
        new = NewRun("flow", TAG, params={"size": 1_000_000}, workflow_yaml=text)
        done = await ended(backend, (await backend.submit(new)).run_id)
        assert done.status == "COMPLETED", done.error
        (result,) = done.results
        assert (result.refused or "").startswith("it was not written whole")
        assert await stored(backend) == []


async def test_results_are_read_over_http_by_the_client_and_on_the_command_line(
    tmp_path: Path,
) -> None:
    (tmp_path / "saver.py").write_text(TASKS)
    options = worker_options(tmp_path, import_paths=(str(tmp_path),))
    async with gateway(tmp_path, worker=options) as (client, backend):
        tasks = ["large", "small", "odd", "deep"]
        graph = "\n".join(f"    {name}" for name in tasks)
        text = f"flow:\n  graph: |\n{graph}\ntasks:\n" + "".join(
            f"  {name}: {{callable: 'saver:{name}'}}\n" for name in tasks
        )
        new = NewRun("flow", TAG, params={"size": 300_000}, workflow_yaml=text)
        done = await ended(backend, (await backend.submit(new)).run_id)
        assert done.status == "COMPLETED", done.error
        values = {
            "large": ["x" * 99] * 3000,
            "small": {"n": 1},
            "odd": {"day": "2026-01-02", "raw": "AP8="},
        }
        listing = (await client.get(f"/runs/{done.run_id}/results")).json()["results"]
        by_task = {each["task"]: each for each in listing}
        assert set(by_task) == set(tasks)
        for task, value in values.items():
            answer = await client.get(f"/runs/{done.run_id}/results/{task}")
            assert answer.headers["content-type"] == "application/json"
            assert answer.json() == value
            told = by_task[task]
            assert told["size_bytes"] == len(answer.content)
            assert told["sha256_hex"] == hashlib.sha256(answer.content).hexdigest()
            assert (told["cut"], told["refused"]) == (None, None)
        # What an earlier version reads is what it has always been.
        assert done.task_records["odd"].output == {
            "day": "datetime.date(2026, 1, 2)",
            "raw": "b'\\x00\\xff'",
        }
        cut = await client.get(f"/runs/{done.run_id}/results/deep")
        assert cut.headers["pyoco-result-cut"] == by_task["deep"]["cut"]
        assert "more than 64 deep" in by_task["deep"]["cut"]
        assert (await client.get(f"/runs/{done.run_id}/results/none")).status_code == 404
        async with AsyncPyocoHttpClient(str(client.base_url)) as ours:
            assert await ours.get_result(done.run_id, "large") == values["large"]
        said = await result(client, done.run_id, "odd")
        assert json.loads(said) == values["odd"]
        listed = await result(client, done.run_id, "--output", "csv")
        assert listed.splitlines()[0].startswith("task,size_bytes,media_type,cut,refused")


async def result(client: httpx.AsyncClient, *options: str) -> str:
    argv = ["--server", str(client.base_url), "result", *options]
    said = await trio.to_thread.run_sync(caught, lambda: main(argv))
    assert said.code == 0, said.err
    return said.out
