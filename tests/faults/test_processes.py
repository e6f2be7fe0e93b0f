"""Faults 5 and 11 of pyoco-server 0.5.1, of whole processes; 10 is in `e2e/test_nats_away`."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from e2e.programs import HTTP, Stage, alive, descendants, open_stage, wait_for

pytestmark = pytest.mark.slow

TASKS = """\
import json
import os
import time
from pathlib import Path


def tell(what):
    line = {"what": what, "attempt": int(os.environ["PYOCO_RUN_ATTEMPT"]), "pid": os.getpid()}
    with Path(__file__).with_name("told.jsonl").open("a") as file:
        file.write(json.dumps(line) + "\\n")


def work(seconds):
    tell("began")
    # Only the first attempt takes so long: it ends before its time because it is stopped.
    time.sleep(seconds if os.environ["PYOCO_RUN_ATTEMPT"] == "1" else 1)
    tell("ended")
"""


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    (tmp_path / "telling.py").write_text(TASKS)
    with open_stage(tmp_path) as stage:
        yield stage


def flow(seconds: float) -> str:
    return (
        f"flow:\n  graph: work\n  defaults:\n    seconds: {seconds}\n"
        "tasks:\n  work:\n    callable: telling:work\n"
    )


def told(stage: Stage) -> list[dict[str, Any]]:
    file = stage.folder / "told.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def began(stage: Stage, attempt: int) -> dict[str, Any]:
    """What the attempt told when its task code began."""

    def look() -> dict[str, Any] | None:
        return next((each for each in told(stage) if each["attempt"] == attempt), None)

    found: dict[str, Any] = wait_for(look, what=f"the begin of attempt {attempt}")
    return found


def test_fault_5_a_worker_that_was_paused_beyond_its_lease_is_fenced(stage: Stage) -> None:
    """After a pause longer than AckWait two attempts ran and wrote side by side."""
    stage.env |= {
        "PYOCO_CONSUMER_ACK_WAIT_SEC": "2",
        "PYOCO_ACK_PROGRESS_INTERVAL_SEC": "0.3",
        "PYOCO_RUN_HEARTBEAT_INTERVAL_SEC": "0.2",
    }
    stage.nats()
    stage.gateway()
    first = stage.worker("--slots", "1", worker_id="first")
    run_id = stage.submit(flow(60.0))
    old = began(stage, 1)
    first.send(signal.SIGSTOP)
    stage.worker("--slots", "1", worker_id="second")
    new = began(stage, 2)
    first.send(signal.SIGCONT)
    # It meets the newer claim, so it ends its child.
    wait_for(lambda: not alive(old["pid"]), within=60, what="the end of the older attempt")
    end = stage.ended(run_id)
    assert (end["status"], end["attempt"], end["worker_id"]) == ("COMPLETED", 2, "second")
    assert [(each["what"], each["attempt"], each["pid"]) for each in told(stage)] == [
        ("began", 1, old["pid"]),
        ("began", 2, new["pid"]),
        ("ended", 2, new["pid"]),
    ]
    # And it works on.
    assert stage.ended(stage.submit())["status"] == "COMPLETED"
    assert alive(first.pid)
    assert stage.get(run_id)["updated_at"] == end["updated_at"]


def test_fault_11_a_worker_that_is_stopped_gives_back_what_it_cannot_finish(stage: Stage) -> None:
    """It exited at once, and the run stayed RUNNING."""
    stage.env |= {"PYOCO_WORKER_DRAIN_TIMEOUT_SEC": "1", "PYOCO_CONSUMER_ACK_WAIT_SEC": "120"}
    stage.nats()
    stage.gateway()
    first = stage.worker("--slots", "1", worker_id="first")
    run_id = stage.submit(flow(60.0))
    old = began(stage, 1)
    since = time.monotonic()
    first.send(signal.SIGTERM)
    assert first.wait() == 0
    took = time.monotonic() - since
    assert took > 1, "the running run has its second"
    assert not alive(old["pid"])
    given_back = stage.get(run_id)
    assert (given_back["status"], given_back["worker_id"]) == ("PENDING", None)
    assert [each["reason"] for each in given_back["attempts"]] == ["worker_stopped"]

    def stopped() -> bool:
        (record,) = HTTP.get(f"{stage.url}/workers", params={"scope": "all"}).json()
        return (record["state"], record["stop_reason"]) == ("STOPPED_GRACEFUL", "graceful_shutdown")

    wait_for(stopped, what="its last word")
    # The next worker has it at once, not after the ack wait of two minutes.
    stage.worker("--slots", "1", worker_id="second")
    began(stage, 2)
    assert stage.get(run_id)["worker_id"] == "second"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_fault_11_the_nats_server_ends_with_the_gateway_that_started_it(
    stage: Stage, number: signal.Signals
) -> None:
    """It survived SIGTERM and SIGINT."""
    gateway = stage.start(
        *("pyoco-server", "up", "--with-nats-bootstrap", "--port", str(stage.http_port)),
        *("--nats-client-port", str(stage.nats_port), "--nats-url", stage.nats_url),
    )
    wait_for(stage.ready, what="a ready gateway")
    family = descendants(gateway.pid)
    assert any(is_nats(pid) for pid in family)
    gateway.send(number)
    gateway.wait()
    wait_for(lambda: not any(map(alive, family)), within=60, what="the end of its processes")


def is_nats(pid: int) -> bool:
    return b"nats-server" in Path(f"/proc/{pid}/cmdline").read_bytes()
