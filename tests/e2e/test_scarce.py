"""A worker whose control group has no memory or no processes left, where the kernel lets a test make one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from e2e.programs import HTTP, Program, Stage, alive, descendants, wait_for
from runner.children import flow_yaml

pytestmark = pytest.mark.slow
MB = 1024 * 1024

TASKS = """\
def allocate(mb):
    return len(bytearray(b"x") * (mb << 20))


def one():
    return 1
"""


@contextmanager
def group_of(controller: str) -> Iterator[Path]:
    """A control group that this controller bounds, of either version."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields, _, kind = line.partition(" - ")
        root = Path(fields.split()[4])
        options = kind.split()[-1].split(",")
        if kind.startswith("cgroup ") and controller in options:
            break
        enabled = root / "cgroup.subtree_control"
        if kind.startswith("cgroup2 ") and controller in enabled.read_text().split():
            break
    else:
        pytest.skip(f"no control groups for {controller} here")
    group = root / f"pyoco-test-{os.getpid()}"
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"control groups cannot be made here: {error}")
    try:
        yield group
    finally:
        for pid in (group / "cgroup.procs").read_text().split():
            with suppress(ProcessLookupError):
                (root / "cgroup.procs").write_text(pid)
        wait_for(partial(removed, group), what="an empty group")


def removed(group: Path) -> bool:
    try:
        group.rmdir()
    except OSError:  # somebody is about to be gone
        return False
    return True


def put(group: Path, worker: Program) -> None:
    """Bound a worker that lives already, with all that it has started."""
    for pid in (worker.pid, *descendants(worker.pid)):
        (group / "cgroup.procs").write_text(str(pid))


def of(task: str, graph: str = "a", **inputs: Any) -> str:
    one = {"callable": f"scarce:{task}", "inputs": inputs}
    return flow_yaml(graph, dict.fromkeys(sorted(set(graph) & set("abc")), one))


def a_worker(stage: Stage) -> Program:
    (stage.folder / "scarce.py").write_text(TASKS)
    stage.nats()
    stage.gateway()
    worker = stage.worker("--slots", "1")
    assert stage.ended(stage.submit(of("one")))["status"] == "COMPLETED"
    return worker


def test_the_kernel_takes_the_child_and_it_is_told_with_its_peak(stage: Stage) -> None:
    with group_of("memory") as group:
        worker = a_worker(stage)
        put(group, worker)
        first = group / "memory.limit_in_bytes"
        (first if first.exists() else group / "memory.max").write_text(str(200 * MB))
        for _ in range(2):
            run = stage.ended(stage.submit(of("allocate", mb=400)))
            assert (run["status"], run["reason"]) == ("FAILED", "out_of_memory"), run["error"]
            peak = run["usage"]["peak_memory_bytes"]
            assert 100 * MB < peak < 300 * MB
            assert f"it had {peak / MB:.0f} MB at most" in run["error"]
            assert stage.ended(stage.submit(of("one")))["status"] == "COMPLETED"
        assert alive(worker.pid)
        worker.stop()


def test_runs_wait_where_there_are_no_threads_and_are_executed_when_there_are(stage: Stage) -> None:
    with group_of("pids") as group:
        worker = a_worker(stage)
        put(group, worker)
        (group / "pids.max").write_text((group / "pids.current").read_text())
        answer = HTTP.post(
            f"{stage.url}/runs/batch",
            json={
                "runs": [
                    {
                        "flow_name": "main",
                        "tag": "hello",
                        "workflow_yaml": of("one", "(a & b) >> c"),
                        "max_attempts": 1,
                    }
                ]
                * 10
            },
        )
        run_ids = [item["run_id"] for item in answer.json()["items"]]

        def resting() -> bool:
            (record,) = HTTP.get(f"{stage.url}/workers").json()
            return any(slot["resting"] for slot in record["slots"])

        wait_for(resting, what="a slot that rests")
        assert {stage.get(run_id)["status"] for run_id in run_ids} <= {"PENDING", "RUNNING"}
        (group / "pids.max").write_text("max")
        for run_id in run_ids:
            run = stage.ended(run_id)
            assert run["status"] == "COMPLETED", run["error"]
        wait_for(lambda: not resting(), what="a slot that works")
        worker.stop()
