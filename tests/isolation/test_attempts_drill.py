"""Whoever is killed, no process of an attempt is there beside the next attempt, and none is left."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from e2e.programs import HTTP, Stage, open_stage, wait_for
from isolation.families import alive_with
from isolation.lives import CODE
from isolation.test_kill_drill import VICTIMS
from isolation.ways import WAYS
from pyoco_server.worker.runner.kin import children
from runner.children import flow_yaml

LONG = os.environ.get("PYOCO_DRILL_LONG") == "1"
SEED = int(os.environ.get("PYOCO_DRILL_SEED", "1"))
ROUNDS = int(os.environ.get("PYOCO_DRILL_ROUNDS", "100")) if LONG else 1

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600 if LONG else 600)]


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with open_stage(tmp_path) as stage:
        stage.env["PYTHONPATH"] = os.pathsep.join((CODE, str(Path(CODE).parents[1])))
        stage.env |= {
            "PYOCO_CONSUMER_ACK_WAIT_SEC": "2",
            "PYOCO_ACK_PROGRESS_INTERVAL_SEC": "0.5",
            "PYOCO_RUN_HEARTBEAT_INTERVAL_SEC": "0.3",
            "PYOCO_CANCEL_GRACE_PERIOD_SEC": "0.2",
        }
        yield stage


def told(folder: Path) -> list[dict[str, Any]]:
    with suppress(FileNotFoundError):
        return [json.loads(line) for line in (folder / "told").read_text().splitlines()]
    return []


def nothing_left(folder: Path) -> bool:
    return not alive_with(str(folder))


def submit(stage: Stage, folder: Path, way: str) -> str:
    inputs = {"folder": str(folder), "way": way}
    flow = flow_yaml("a", {"a": {"callable": "attempts:attempt", "inputs": inputs}})
    item = {
        "flow_name": "main",
        "tag": "hello",
        "workflow_yaml": flow,
        "max_attempts": 6,
        "retry_backoff_sec": 0.05,
    }
    answer = HTTP.post(f"{stage.url}/runs/batch", json={"runs": [item]}).json()
    run_id = answer["items"][0]["run_id"]
    assert isinstance(run_id, str)
    return run_id


def test_no_attempt_meets_what_another_one_left(stage: Stage, tmp_path: Path) -> None:
    stage.nats()
    stage.gateway()
    workers = {name: stage.worker("--slots", "1", worker_id=name) for name in ("w1", "w2")}
    order = random.Random(SEED)
    victims_of = [VICTIMS[(number - 1) % len(VICTIMS)] for number in range(ROUNDS)]
    attempts, met = 0, []
    for number, victims in enumerate(victims_of):
        way = WAYS[number % len(WAYS)]
        folder = tmp_path / f"round {number}"
        folder.mkdir()
        run_id = submit(stage, folder, way)
        wait_for(partial(told, folder), what=f"the begin of round {number}")
        time.sleep(order.uniform(0, 0.4))  # the moment is what the drill is about
        (name,) = [w for w, p in workers.items() if begun_by(p.pid, told(folder)[0]["began"])]
        worker = workers[name]
        guardian = children(worker.pid)[0]
        kill(victims.split(), worker.pid, guardian, children(guardian))
        if victims == "guardian":  # its run goes on
            HTTP.post(f"{stage.url}/runs/{run_id}/cancel")
        end = stage.ended(run_id)
        found = told(folder)
        attempts += len({each["attempt"] for each in found})
        met += [(number, victims, way, each) for each in found if each["beside"]]
        if victims != "guardian":
            assert end["attempt"] > 1, (victims, end)
            assert end["status"] == "COMPLETED", (victims, end)
        if "worker" in victims:
            worker.process.wait(10)
            workers[name] = stage.worker("--slots", "1", worker_id=name)
        wait_for(partial(nothing_left, folder), what=f"the end of round {number}: {victims}")
    print(f"{ROUNDS} rounds, {attempts} attempts, met another one: {len(met)}")
    assert not met


def begun_by(worker: int, child: int) -> bool:
    return any(child in children(guardian) for guardian in children(worker))


def kill(victims: list[str], worker: int, guardian: int, of_guardian: list[int]) -> None:
    pids = {"worker": [worker], "guardian": [guardian], "child": of_guardian}
    for victim in victims:
        for pid in pids[victim]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
