"""A gateway whose disk is full, or that has no descriptor left, says so, and hides nothing meanwhile."""

from __future__ import annotations

import errno
import os
import sqlite3
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import trio

from backend.stage import TAG, no_threads_for
from http_api.gateway import YAML, gateway, yaml_form
from http_api.seeding import put_runs, snapshot
from pyoco_http import flows, forms, submissions
from pyoco_server.gateway import dead_letter_desk
from pyoco_server.gateway.read_model import model
from pyoco_server.gateway.read_model.writer import Writer
from pyoco_server.gateway.schedules import records
from read_model.test_read_model import break_index


def full(writer: Writer) -> None:
    """From now on the file takes no further page, as on a full disk."""
    writer._db.execute("PRAGMA max_page_count = 1")


def roomy(writer: Writer) -> None:
    writer._db.execute("PRAGMA max_page_count = 1000000")


async def test_lists_do_not_leave_out_what_they_have_no_room_for(tmp_path: Path) -> None:
    async with gateway(tmp_path, worker=False, catch_up_seconds=1) as (client, backend):
        await client.post("/runs", json={"flow_name": "x", "tag": TAG})
        await backend.reads._model.write(full)
        runs = [{"flow_name": "x", "tag": TAG, "params": {}}] * 400
        assert (await client.post("/runs/batch", json={"runs": runs})).json()["accepted"] == 400
        for path in ("/runs", "/runs/counts", "/stats", "/metrics", "/runs?q=x"):
            answer = await client.get(path)
            assert answer.status_code == 503, path
            assert "disk is full" in answer.json()["reason"]
            assert answer.headers["retry-after"]
        ready = (await client.get("/health/ready")).json()
        assert "disk is full" in " ".join(ready["reasons"])
        await backend.reads._model.write(roomy)
        with trio.fail_after(60):
            while (await client.get("/runs/counts")).status_code != 200:
                await trio.sleep(0.05)
        assert (await client.get("/runs/counts")).json()["total"] == 401


@pytest.mark.parametrize("what", ["no space", "no descriptor"])
async def test_an_upload_without_room_is_a_503(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    def none_left(_: Path) -> Any:
        if what == "no space":
            return Path("/dev/full").open("w+b", buffering=0)
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    async with gateway(tmp_path, worker=False) as (client, _):
        with monkeypatch.context() as patch:
            patch.setattr(forms, "_open", none_left)
            files = {"wheel": ("a-1.0-py3-none-any.whl", b"x" * 100_000)}
            answer = await client.post("/wheels", files=files)
        assert answer.status_code == 503, answer.text
        assert answer.json()["detail"] == "gateway has no room"
        assert answer.json()["reason"] in {os.strerror(errno.ENOSPC), os.strerror(errno.EMFILE)}
        assert (await client.post("/runs/yaml", **yaml_form())).status_code == 200


async def test_a_read_model_that_cannot_be_opened_is_a_503(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with gateway(tmp_path, worker=False) as (client, backend):
        backend.reads._model._idle.clear()

        def refused(path: Path) -> sqlite3.Connection:
            raise sqlite3.OperationalError("unable to open database file")

        with monkeypatch.context() as patch:
            patch.setattr("pyoco_server.gateway.read_model.model.open_reader", refused)
            answer = await client.get("/runs")
        assert answer.status_code == 503
        assert "unable to open" in answer.json()["reason"]
        assert (await client.get("/runs")).status_code == 200


async def test_lists_come_back_when_a_damaged_index_was_met(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pyoco_server.gateway.indexer._EXPIRE_SECONDS", 0.1)
    path = f"/runs?tag={TAG}"
    async with gateway(tmp_path, worker=False) as (client, backend):
        await client.post("/runs", json={"flow_name": "x", "tag": TAG})
        whole = (await client.get(path)).json()
        backend.reads._model._idle.clear()  # they remember pages
        await backend.reads._model.write(lambda writer: break_index(writer, "runs_by_tag"))
        answer = await client.get(path)
        assert answer.status_code == 503
        assert "malformed" in answer.json()["reason"]
        with trio.fail_after(60):
            while (answer := await client.get(path)).status_code != 200:
                await trio.sleep(0.05)
        assert answer.json() == whole


@pytest.mark.parametrize("busy", [False, True])
async def test_without_a_thread_lists_are_a_503_and_nothing_starts_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, busy: bool
) -> None:
    monkeypatch.setattr("pyoco_server.gateway.indexer._EXPIRE_SECONDS", 0.1)
    async with gateway(tmp_path, worker=False) as (client, backend):
        await client.post("/runs", json={"flow_name": "x", "tag": TAG})
        assert (await client.get("/runs/counts")).json()["total"] == 1
        reads = backend.reads
        opened = reads._model._generation
        with no_threads_for(model):
            if busy:
                await client.post("/runs", json={"flow_name": "x", "tag": TAG})
            with trio.fail_after(60):
                while reads.indexer.trouble is None:
                    await trio.sleep(0.02)
            answer = await client.get("/runs")
            assert answer.status_code == 503
            assert "can't start new thread" in answer.json()["reason"]
        with trio.fail_after(60):
            while not (await backend.readiness()).ready:
                await trio.sleep(0.05)
        assert (await client.get("/runs/counts")).json()["total"] == 1 + busy
        assert reads._model._generation == opened


async def test_without_a_thread_what_needs_one_is_a_503_and_nothing_is_done(tmp_path: Path) -> None:
    run = {"flow_name": "x", "tag": TAG, "params": {"x": "y" * 100_000}}
    flow = YAML + b"#" + b"x" * 100_000
    wheel = {"files": {"wheel": ("a-1.0-py3-none-any.whl", b"x" * 100_000)}}
    calls: list[tuple[ModuleType, str, str, dict[str, Any]]] = [
        (submissions, "POST", "/runs", {"json": run}),
        (submissions, "POST", "/runs/batch", {"json": {"runs": [{"flow_name": "x"}]}}),
        (submissions, "POST", "/runs/yaml", yaml_form(flow)),
        (flows, "POST", "/flows/check", {"content": flow}),
        (forms, "POST", "/wheels", wheel),
        (dead_letter_desk, "POST", "/runs/ended/retry", {}),
        (records, "PUT", "/schedules/new", {"json": {"flow_name": "x", "every_sec": 3600}}),
        (records, "POST", "/schedules/s/pause", {}),
        (records, "GET", "/schedules/s/next", {}),
    ]
    async with gateway(tmp_path, worker=False) as (client, backend):
        await put_runs(backend, [snapshot("ended")])
        made = await client.put("/schedules/s", json={"flow_name": "x", "every_sec": 3600})
        assert made.status_code == 200
        for module, method, path, sent in calls:
            with no_threads_for(module) as refused:
                answer = await client.request(method, path, **sent)
            assert refused, path
            assert answer.status_code == 503, (path, answer.text)
            assert answer.json()["reason"] == "can't start new thread"
            assert answer.headers["retry-after"]
        assert (await client.get("/runs/counts")).json()["total"] == 1
        assert (await client.get("/schedules")).json()["total"] == 1
        for _, method, path, sent in calls:
            answer = await client.request(method, path, **sent)
            assert answer.status_code < 500, (path, answer.text)
