"""Many runs of one instant, the gateway killed over it: each starts once, in its time; cancelled ones never.

Or each expires once, and is started by nobody.

``PYOCO_DRILL_LONG=1`` plays 5,000 runs and prints what it took.
"""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from e2e.programs import FLOW_YAML, HTTP, Stage, open_stage, wait_for

LONG = os.environ.get("PYOCO_DRILL_LONG") == "1"
SEED = int(os.environ.get("PYOCO_DRILL_SEED", "1"))
RUNS = 5000 if LONG else 60
AHEAD = 25.0 if LONG else 8.0
AT_ONCE = 1000


@pytest.mark.slow
def test_runs_of_one_instant_start_once_each_and_cancelled_ones_never(tmp_path: Path) -> None:
    chance = random.Random(SEED)
    with open_stage(tmp_path) as stage:
        stage.nats()
        gateway = stage.gateway()
        stage.worker("--slots", "2")
        due = time.time() + AHEAD
        began = time.monotonic()
        run_ids = submit(stage, start_at=due)
        accepted_in = time.monotonic() - began
        early = chance.sample(run_ids, RUNS // 5)
        for run_id in early:
            assert cancel(stage, run_id) == "CANCELLING"
        assert time.time() < due - 0.5, "it took too long to get ready"
        memory = resident(gateway.pid)
        gateway.send(signal.SIGKILL)
        gateway.wait()
        time.sleep(max(due + 0.5 - time.time(), 0))
        stage.gateway()
        # While workers take them.
        late = chance.sample([one for one in run_ids if one not in early], RUNS // 20)
        answers = {run_id: cancel(stage, run_id) for run_id in late}
        wait_for(lambda: all_ended(stage), within=400.0, what="the end of all runs")
        runs = everything(stage)
    assert {run["run_id"] for run in runs} == set(run_ids)
    starts = []
    for run in runs:
        if run["run_id"] in early:
            assert (run["status"], run["start_time"], run["attempt"]) == ("CANCELLED", None, 0)
        elif answers.get(run["run_id"]) == "CANCELLING":
            assert run["status"] == "CANCELLED"
        else:
            assert (run["status"], run["attempt"]) == ("COMPLETED", 1)
        if run["start_time"] is not None:
            assert run["start_time"] >= due - 0.05
            starts.append(run["start_time"] - due)
    starts.sort()
    print(
        f"\n{RUNS} runs of one instant: accepted in {accepted_in:.1f} s, the gateway had {memory} MiB; "
        f"the first started {starts[0] * 1000:.0f} ms late, the last {starts[-1]:.1f} s, "
        f"{len(starts) / max(starts[-1] - starts[0], 0.01):.0f} a second"
    )


@pytest.mark.slow
def test_runs_that_expire_in_one_instant_end_once_each_and_are_started_by_nobody(
    tmp_path: Path,
) -> None:
    with open_stage(tmp_path) as stage:
        stage.nats()
        gateway = stage.gateway()
        due = time.time() + AHEAD
        run_ids = submit(stage, expires_at=due)
        assert time.time() < due - 0.5, "it took too long to get ready"
        gateway.send(signal.SIGKILL)
        gateway.wait()
        time.sleep(max(due + 0.5 - time.time(), 0))
        # Jobs are there for it, as long as the runs have not ended.
        stage.worker("--slots", "2")
        stage.gateway()
        wait_for(lambda: all_ended(stage), within=400.0, what="the end of all runs")
        over = time.time() - due
        runs = everything(stage)
        letters = everything(stage, "/dlq")
    assert {run["run_id"] for run in runs} == set(run_ids)
    assert {(run["status"], run["state"], run["attempt"]) for run in runs} == {
        ("FAILED", "EXPIRED", 0)
    }
    assert sorted(letter["run_id"] for letter in letters) == sorted(run_ids)
    print(f"\n{RUNS} runs that expired in one instant: the last had ended {over:.1f} s later")


def submit(stage: Stage, **times: float) -> list[str]:
    found: list[str] = []
    run = {"flow_name": "main", "tag": "hello", "workflow_yaml": FLOW_YAML, **times}
    for first in range(0, RUNS, AT_ONCE):
        body = {"runs": [run] * min(AT_ONCE, RUNS - first)}
        answer = HTTP.post(f"{stage.url}/runs/batch", json=body, timeout=60)
        assert answer.status_code == 200, answer.text
        found += [item["run_id"] for item in answer.json()["items"]]
    return found


def cancel(stage: Stage, run_id: str) -> str:
    answer = HTTP.post(f"{stage.url}/runs/{run_id}/cancel")
    assert answer.status_code == 200, answer.text
    return str(answer.json()["status"])


def all_ended(stage: Stage) -> bool:
    answer = HTTP.get(f"{stage.url}/runs/counts")
    counts = answer.json()["counts"] if answer.status_code == 200 else {"none": 1}
    return set(counts) <= {"COMPLETED", "CANCELLED", "EXPIRED"}


def everything(stage: Stage, path: str = "/runs") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    query: dict[str, Any] = {"limit": 200} | ({"updated_after": 0} if path == "/runs" else {})
    while True:
        page = HTTP.get(f"{stage.url}{path}", params=query).json()
        found += page["items"]
        if page["next_cursor"] is None:
            return found
        query["cursor"] = page["next_cursor"]


def resident(pid: int) -> int:
    """What a process has in memory, in MiB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") // 2**20
