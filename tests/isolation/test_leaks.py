"""Runs leave no memory behind, those that fail with much of it included."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from e2e.programs import HTTP, Stage, descendants, open_stage, wait_for
from runner.children import flow_yaml

LONG = os.environ.get("PYOCO_DRILL_LONG") == "1"
RUNS = 3000 if LONG else 63
PARTS = 10 if LONG else 3
"""How many times memory is looked at; the first is when all has been used once."""
FLAT_MB = 25

pytestmark = pytest.mark.slow
TASKS = """\
def fail():
    big = bytearray(b"x") * 50_000_000
    error = ValueError("with all that it has")
    error.big, error.itself = big, error
    raise error


def pass_by():
    return len(bytearray(b"x") * 5_000_000)
"""


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    (tmp_path / "leaky.py").write_text(TASKS)
    with open_stage(tmp_path) as stage:
        yield stage


def submit(stage: Stage, count: int) -> list[str]:
    """Have every third run fail."""
    flows = [flow_yaml("a", {"a": {"callable": f"leaky:{f}"}}) for f in ("pass_by", "fail")]
    items: list[dict[str, Any]] = [
        {"flow_name": "main", "tag": "hello", "workflow_yaml": flows[number % 3 == 2]}
        for number in range(count)
    ]
    answer = HTTP.post(f"{stage.url}/runs/batch", json={"runs": items})
    assert answer.json()["accepted"] == count
    return [item["run_id"] for item in answer.json()["items"]]


def counts(stage: Stage) -> dict[str, int]:
    answer: dict[str, int] = HTTP.get(f"{stage.url}/runs/counts").json()["counts"]
    return answer


def ended(stage: Stage, count: int) -> bool:
    found = counts(stage)
    return found.get("COMPLETED", 0) + found.get("FAILED", 0) == count


def resident_mb(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096 / 1024**2


def test_memory_is_flat_over_many_runs_of_which_a_third_fails(stage: Stage) -> None:
    stage.nats()
    stage.gateway()
    worker = stage.worker("--slots", "2")
    looks = []
    for part in range(1, PARTS + 1):
        submit(stage, RUNS // PARTS)
        done = RUNS // PARTS * part
        wait_for(partial(ended, stage, done), within=250, what=f"{done} runs")
        children = sorted(descendants(worker.pid))
        looks.append((resident_mb(worker.pid), *map(resident_mb, children)))
    found = counts(stage)
    print(f"{found}; worker, guardian and children in MB: {looks[0]} at first, {looks[-1]} at last")
    assert found["FAILED"] == RUNS // 3
    first, last = looks[0], looks[-1]
    assert len(first) == len(last) == 4, "worker, guardian, two children"
    assert last[0] - first[0] < FLAT_MB
    assert max(last[1:]) - max(first[1:]) < FLAT_MB
