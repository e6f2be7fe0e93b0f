"""A worker gives each tenant, and with ``always`` each run, a child of its own; and ends what it left."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from backend.stage import TAG, ended, running
from isolation.families import alive_with, gone
from isolation.lives import CODE
from pyoco_server.backend import Backend
from pyoco_server.gateway.new_run import NewRun
from pyoco_server.model.run import RunStatus
from pyoco_server.worker.tree import WorkerOptions
from runner.children import flow_yaml

pytestmark = pytest.mark.nats
OPTIONS = WorkerOptions(tags=(TAG,), slots=1, import_paths=(CODE,))


async def submitted(backend: Backend, tenant: str, task: str, **inputs: Any) -> str:
    text = flow_yaml("a", {"a": {"callable": task, "inputs": inputs}})
    accepted = await backend.submit(
        NewRun("main", tag=TAG, params={}, workflow_yaml=text, tenant_id=tenant)
    )
    return accepted.run_id


async def output(backend: Backend, tenant: str, task: str, **inputs: Any) -> Any:
    end = await ended(backend, await submitted(backend, tenant, task, **inputs))
    assert end.status is RunStatus.COMPLETED, end.error
    return (end.task_records or {})["a"].output


@pytest.mark.parametrize(("fresh", "children"), [("auto", 3), ("always", 4)])
async def test_who_gets_a_child_of_its_own(tmp_path: Path, fresh: str, children: int) -> None:
    async with running(tmp_path, worker=OPTIONS, worker_fresh_child=fresh) as backend:
        pids = [await output(backend, tenant, "os:getpid") for tenant in ("a", "a", "b", "a")]
    assert len(set(pids)) == children


async def test_a_worker_leaves_nothing_of_a_run_and_of_itself(tmp_path: Path) -> None:
    mark = str(tmp_path)
    async with running(tmp_path, worker=OPTIONS) as backend:
        child = await output(backend, "a", "os:getpid")
        guardian = await output(backend, "a", "os:getppid")
        assert guardian != os.getpid()
        await output(backend, "a", "spawns:session", mark=mark, stay=False)
        assert alive_with(f"time.sleep(600) {mark}") == []
    await gone(child)
    await gone(guardian)
