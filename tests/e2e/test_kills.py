"""Whatever is killed, the rest recovers by itself and no process is left over."""

from __future__ import annotations

import os
import re
import signal
from contextlib import suppress
from pathlib import Path

import pytest

from e2e.programs import HTTP, KILL, Program, Stage, alive, descendants, wait_for

pytestmark = pytest.mark.slow


def runner_pids(worker: Program) -> list[int]:
    found = []
    for pid in descendants(worker.pid):
        with suppress(OSError):  # some are gone by now
            if b"runner" in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(pid)
    return sorted(found)


def running(stage: Stage, run_id: str) -> dict[str, object]:
    def look() -> dict[str, object] | None:
        snapshot = stage.get(run_id)
        tasks = snapshot["tasks"]
        return snapshot if "RUNNING" in tasks.values() else None

    snapshot: dict[str, object] = wait_for(look, what="a running task")
    return snapshot


def executing(stage: Stage, seconds: float) -> tuple[Program, str]:
    """A worker with one slot, and the run that it executes."""
    stage.nats()
    stage.gateway()
    worker = stage.worker("--slots", "1")
    run_id = stage.submit(stage.slow_flow(seconds))
    running(stage, run_id)
    return worker, run_id


def test_a_killed_child_fails_its_run_and_is_replaced(stage: Stage) -> None:
    worker, run_id = executing(stage, 60)
    (child,) = runner_pids(worker)

    os.kill(child, KILL)
    ended = stage.ended(run_id)
    assert ended["status"] == "FAILED"
    assert ended["reason"] == "worker_crashed"
    assert "SIGKILL" in ended["error"]
    assert stage.ended(stage.submit())["status"] == "COMPLETED"
    assert runner_pids(worker) != [child]


def test_an_idle_child_that_is_killed_is_started_again(stage: Stage) -> None:
    stage.nats()
    stage.gateway()
    worker = stage.worker("--slots", "1")
    assert stage.ended(stage.submit())["status"] == "COMPLETED"

    (child,) = runner_pids(worker)
    os.kill(child, KILL)
    wait_for(lambda: runner_pids(worker) not in ([], [child]))
    assert stage.ended(stage.submit())["status"] == "COMPLETED"


def test_a_killed_worker_leaves_no_child_and_its_run_goes_to_the_next(stage: Stage) -> None:
    stage.env["PYOCO_CONSUMER_ACK_WAIT_SEC"] = "2"
    stage.nats()
    stage.gateway()
    first = stage.worker("--slots", "1", worker_id="first")
    run_id = stage.submit(stage.slow_flow(600).replace(":work", ":slow_at_first"))
    running(stage, run_id)
    family = descendants(first.pid)
    first.send(KILL)
    wait_for(lambda: not any(map(alive, family)), within=60)
    stage.worker("--slots", "1", worker_id="second")
    ended = stage.ended(run_id)
    assert (ended["status"], ended["worker_id"], ended["attempt"]) == ("COMPLETED", "second", 2)


def test_a_killed_gateway_comes_back_to_its_runs(stage: Stage) -> None:
    stage.nats()
    gateway = stage.gateway()
    stage.worker()
    run_id = stage.submit(stage.slow_flow(2))
    gateway.send(KILL)
    gateway.wait()
    stage.gateway()
    assert stage.ended(run_id)["status"] == "COMPLETED"


def test_killing_dev_leaves_no_process(stage: Stage) -> None:
    dev = stage.start(
        "pyoco-server", "dev", "--port", str(stage.http_port), "--nats-port", str(stage.nats_port)
    )
    wait_for(lambda: "stop with Ctrl-C" in dev.text())
    family = descendants(dev.pid)
    assert len(family) >= 2, "a NATS node and slots"
    dev.send(KILL)
    wait_for(lambda: not any(map(alive, family)), within=60)


def test_ctrl_c_ends_dev_with_130_and_no_process(stage: Stage) -> None:
    dev = stage.start(
        "pyoco-server", "dev", "--port", str(stage.http_port), "--nats-port", str(stage.nats_port)
    )
    wait_for(lambda: "stop with Ctrl-C" in dev.text())
    family = descendants(dev.pid)
    dev.send(signal.SIGINT)
    assert dev.wait() == 130
    wait_for(lambda: not any(map(alive, family)), within=60)
    assert "Traceback" not in dev.text()


def test_sigterm_ends_a_worker_in_good_order(stage: Stage) -> None:
    worker, run_id = executing(stage, 2)
    worker.send(signal.SIGTERM)
    assert worker.wait() == 0
    ended_in_good_order(stage, run_id)


def test_a_worker_drained_by_its_operator_ends_in_good_order(stage: Stage) -> None:
    worker, run_id = executing(stage, 2)
    stage.run("pyoco-client", "--server", stage.url, "worker-drain", "w1")
    assert worker.wait() == 0
    ended_in_good_order(stage, run_id)


def ended_in_good_order(stage: Stage, run_id: str) -> None:
    """A run completed, and its worker stopped, which the gateway hears by itself."""
    assert stage.ended(run_id)["status"] == "COMPLETED"
    wait_for(
        lambda: stage.get(run_id)["worker_state"] == "STOPPED_GRACEFUL", what="its worker's end"
    )


def test_the_first_signal_after_an_operators_drain_hurries_nothing(stage: Stage) -> None:
    worker, run_id = executing(stage, 4)
    stage.run("pyoco-client", "--server", stage.url, "worker-drain", "w1")
    wait_for(lambda: re.search("draining.{0,4}[Tt]rue", worker.text()), what="the order")
    worker.send(signal.SIGTERM)
    assert worker.wait() == 0
    assert stage.ended(run_id)["status"] == "COMPLETED"


def test_a_second_signal_hurries_a_worker_that_gives_its_run_back(stage: Stage) -> None:
    stage.env["PYOCO_WORKER_DRAIN_TIMEOUT_SEC"] = "600"
    worker, run_id = executing(stage, 600)
    worker.send(signal.SIGTERM)
    wait_for(lambda: HTTP.get(f"{stage.url}/workers").json()[0]["draining"])
    worker.send(signal.SIGTERM)
    assert worker.wait() == 0, "long before the drain or the run is over"
    given_back = stage.get(run_id)
    assert (given_back["status"], given_back["attempts"][0]["reason"]) == (
        "PENDING",
        "worker_stopped",
    )
