"""A NATS that is away is a delay: gateway and worker come back by themselves.

``PYOCO_DRILL_LONG=1`` adds an absence of two and a half minutes. It begins before the first test of this
module and is looked at by the last one, so that it costs no more than what is left of it by then.
"""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import pytest

from e2e.programs import KILL, Program, Stage, alive, open_stage, wait_for

pytestmark = pytest.mark.slow

SHORT_SECONDS = 10
LONG_SECONDS = 150
LONG = os.environ.get("PYOCO_DRILL_LONG") == "1"


@dataclass
class Absence:
    """A stage whose NATS was killed while a run was being executed.

    Attributes:
        stage: The stage.
        gateway: Its gateway, which runs on.
        worker: Its worker, which runs on.
        run_id: The run that was being executed.
        since: When NATS was killed, by the monotonic clock.
    """

    stage: Stage
    gateway: Program
    worker: Program
    run_id: str
    since: float


def begin(stage: Stage, run_seconds: float) -> Absence:
    nats = stage.nats()
    gateway = stage.gateway()
    worker = stage.worker("--slots", "2")
    assert stage.ended(stage.submit())["status"] == "COMPLETED"
    run_id = stage.submit(stage.slow_flow(run_seconds))
    wait_for(lambda: "RUNNING" in stage.get(run_id)["tasks"].values(), what="a running task")
    nats.send(KILL)
    nats.wait()
    return Absence(stage, gateway, worker, run_id, time.monotonic())


def end(absence: Absence, seconds: float) -> None:
    """NATS comes back so many seconds after it went; all is well again, by itself."""
    stage = absence.stage
    wait_for(lambda: time.monotonic() - absence.since > seconds, within=seconds + 5)
    stage.nats()
    back = time.monotonic()
    wait_for(stage.ready, within=60)
    ready = time.monotonic() - back
    assert stage.ended(stage.submit(), within=60)["status"] == "COMPLETED"
    done = time.monotonic() - back
    during = stage.ended(absence.run_id, within=60)
    assert (during["status"], during["attempt"]) == ("COMPLETED", 1)
    assert absence.gateway.process.poll() is None
    assert absence.worker.process.poll() is None
    print(
        f"\nNATS away for {seconds:g} s: ready after {ready:.1f} s, a new run done at {done:.1f} s"
    )


@pytest.fixture(scope="module", autouse=True)
def long_absence(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Absence | None]:
    if not LONG:
        yield None
        return
    with open_stage(tmp_path_factory.mktemp("long")) as stage:
        yield begin(stage, run_seconds=3)


def test_away_for_ten_seconds(stage: Stage) -> None:
    absence = begin(stage, run_seconds=3)
    refused = httpx.post(f"{stage.url}/runs", json={"flow_name": "x"}, timeout=60)
    assert refused.status_code == 503
    assert re.match("nats unavailable: ", refused.json()["detail"])
    unready = httpx.get(f"{stage.url}/health/ready", timeout=60)
    assert unready.status_code == 503
    assert any("NATS" in reason for reason in unready.json()["reasons"])
    end(absence, SHORT_SECONDS)


def test_a_worker_that_was_started_before_nats_waits_for_it(
    stage: Stage,
) -> None:
    worker = stage.worker()
    gateway = stage.start(
        "pyoco-server", "up", "--port", str(stage.http_port), "--nats-url", stage.nats_url
    )
    wait_for(lambda: "listens on" in gateway.text())
    assert httpx.get(f"{stage.url}/health", timeout=60).status_code == 200
    assert not stage.ready()
    stage.nats()
    wait_for(stage.ready)
    assert stage.ended(stage.submit())["status"] == "COMPLETED"
    assert alive(worker.pid)


def test_ctrl_c_ends_both_in_good_time_while_nats_is_away(
    stage: Stage,
) -> None:
    stage.env["PYOCO_WORKER_DRAIN_TIMEOUT_SEC"] = "1"
    absence = begin(stage, run_seconds=600)
    began = time.monotonic()
    absence.gateway.send(signal.SIGINT)
    assert absence.gateway.wait() == 130
    absence.worker.send(signal.SIGINT)
    assert absence.worker.wait() == 130
    assert time.monotonic() - began < 60, "the run takes ten minutes"


@pytest.mark.timeout(LONG_SECONDS + 600)
def test_away_for_a_hundred_and_fifty_seconds(long_absence: Absence | None) -> None:
    if long_absence is None:
        pytest.skip("takes minutes; PYOCO_DRILL_LONG=1 runs it")
    end(long_absence, LONG_SECONDS)
