"""What runs cost: counted in a gateway, a worker with four slots and a nats-server, processes all of them."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, Final, TypeAlias

from e2e.programs import HTTP, Program, Stage, open_stage, wait_for
from ports import free_port

BATCH: Final = 500
SINGLES: Final = 200
WARM_UP: Final = 20
IDLE_SECONDS: Final = 3
QUIET_SECONDS: Final = 0.5
"""So long nothing was written, after which everything is done: what is put off at all is put off for less."""

RUN: Final = {"flow_name": "nothing", "tag": "hello"}
FLOWS: Final = """\
from pyoco.core.models import Flow
from pyoco.dsl.syntax import task


@task
def first():
    return None


@task
def second():
    return None


def resolve(name):
    return Flow(name=name) >> first >> second
"""

Counts: TypeAlias = dict[str, float]


@dataclass
class Counted:
    """A program that counts.

    Attributes:
        program: What runs.
        asked: Where it answers.
    """

    program: Program
    asked: socket.socket

    def counts(self) -> Counts:
        """What it has done since it was started."""
        self.asked.sendall(b"?")
        line = b""
        while not line.endswith(b"\n"):
            piece = self.asked.recv(4096)
            assert piece, f"{self.program.name} has ended:\n{self.program.text()}"
            line += piece
        counts: Counts = json.loads(line)
        return counts


def _counted(stage: Stage, name: str, *options: str) -> Counted:
    """Start a command that counts what it does."""
    ours, theirs = socket.socketpair()
    log = stage.folder / f"{name}.log"
    with log.open("wb") as out, theirs:
        process = subprocess.Popen(
            [sys.executable, "-m", "costs.host", name, "--nats-url", stage.nats_url, *options],
            cwd=stage.folder,
            env={**stage.env, "PYTHONPATH": str(Path(__file__).parent.parent)},
            stdin=theirs.fileno(),
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    ours.settimeout(20)
    program = Program(name, process, log)
    stage.programs.append(program)
    return Counted(program, ours)


@dataclass
class Parts:
    """What costs are measured in.

    Attributes:
        stage: Where everything runs.
        gateway: Answers HTTP.
        worker: Executes, in four slots.
        monitor: A connection to where nats-server tells of itself, which is no message to it.
        submitted: How many runs were submitted so far.
    """

    stage: Stage
    gateway: Counted
    worker: Counted
    monitor: HTTPConnection
    submitted: int = 0

    def counts(self) -> Counts:
        """All there is to count, by the name of its row."""
        found = {
            f"{who}.{what}": number
            for who, counted in (("gateway", self.gateway), ("worker", self.worker))
            for what, number in counted.counts().items()
        }
        nats = self._told("/varz")
        for what in ("in_msgs", "out_msgs", "in_bytes", "out_bytes"):
            found[f"nats.{what}"] = nats[what]
        return found

    def wait_ended(self) -> None:
        """Wait until each submitted run has ended: its end is stored and its job acknowledged."""
        deadline = time.monotonic() + 120
        while self._written()["PYOCO_WORK"] != (self.submitted, 0):
            assert time.monotonic() < deadline, self.worker.program.text()
            time.sleep(0.0005)

    def settle(self) -> None:
        """Wait until each submitted run has ended, and nothing is left to write of any of them."""
        self.wait_ended()
        written, since = self._written(), time.monotonic()
        while time.monotonic() < since + QUIET_SECONDS:
            time.sleep(0.02)
            now = self._written()
            if now != written:
                written, since = now, time.monotonic()

    def _written(self) -> dict[str, tuple[int, int]]:
        """The last sequence and the number of messages of each stream, but for what beats."""
        (account,) = self._told("/jsz?streams=true")["account_details"]
        return {
            stream["name"]: (stream["state"]["last_seq"], stream["state"]["messages"])
            for stream in account["stream_detail"]
            if stream["name"] != "KV_pyoco_workers"
        }

    def _told(self, path: str) -> dict[str, Any]:
        self.monitor.request("GET", path)
        told: dict[str, Any] = json.load(self.monitor.getresponse())
        return told


@contextmanager
def open_parts(folder: Path) -> Iterator[Parts]:
    """Start all parts; they are idle and ready."""
    folder.mkdir(parents=True, exist_ok=True)
    with open_stage(folder) as stage:
        (folder / "flows.py").write_text(FLOWS)
        monitor = free_port()
        store = folder / "nats-store"
        stage.start(
            "nats-server",
            *("-js", "-a", "127.0.0.1", "-p", str(stage.nats_port)),
            *("-m", str(monitor), "-sd", str(store)),
        )
        wait_for(stage.nats_answers, what="NATS")
        gateway = _counted(stage, "pyoco-server", "--port", str(stage.http_port))
        wait_for(stage.ready, what="a ready gateway")
        worker = _counted(
            stage,
            "pyoco-worker",
            *("--tags", "hello", "--slots", "4", "--flow-resolver", "flows.py:resolve"),
        )
        with (
            gateway.asked,
            worker.asked,
            closing(HTTPConnection("127.0.0.1", monitor, timeout=60)) as monitored,
        ):
            parts = Parts(stage, gateway, worker, monitored)
            # Children have started, what is imported late is imported.
            submit_batch(parts, WARM_UP)
            parts.settle()
            yield parts


def submit_batch(parts: Parts, runs: int) -> None:
    """Submit runs by one `POST /runs/batch`."""
    body = {"runs": [RUN] * runs}
    answer = HTTP.post(f"{parts.stage.url}/runs/batch", json=body, timeout=60)
    assert answer.json()["accepted"] == runs, answer.text
    parts.submitted += runs


def submit_singly(parts: Parts, runs: int, *, followed: bool = False) -> None:
    """Submit runs by `POST /runs` over a connection that is kept, each when the one before has ended.

    Args:
        parts: What they are submitted to.
        runs: How many.
        followed: Whether their ends are learnt from `GET /runs/{run_id}/watch`, not from the queue.
    """
    with closing(HTTPConnection("127.0.0.1", parts.stage.http_port, timeout=60)) as client:
        for _ in range(runs):
            client.request("POST", "/runs", json.dumps(RUN), {"Content-Type": "application/json"})
            run_id = json.load(client.getresponse())["run_id"]
            parts.submitted += 1
            if followed:
                _follow(parts.stage, run_id)
            else:
                parts.wait_ended()


def _follow(stage: Stage, run_id: str) -> None:
    with closing(HTTPConnection("127.0.0.1", stage.http_port, timeout=60)) as client:
        client.request("GET", f"/runs/{run_id}/watch")
        events = client.getresponse()
        while b'"status":"COMPLETED"' not in events.readline():
            pass


def measured(folder: Path) -> dict[str, Counts]:
    """The costs of a run of two tasks that do nothing, by case and row.

    Nothing is subtracted; ``idle`` tells what a second costs in which nothing happens.
    """
    cases: dict[str, tuple[int, Callable[[Parts, int], None]]] = {
        "batch": (BATCH, submit_batch),
        "single": (SINGLES, submit_singly),
        "followed": (SINGLES, partial(submit_singly, followed=True)),
    }
    found: dict[str, Counts] = {}
    with open_parts(folder) as parts:
        for case, (runs, submit) in cases.items():
            before = parts.counts()
            submit(parts, runs)
            parts.settle()
            found[case] = _risen(before, parts.counts(), runs)
        before = parts.counts()
        time.sleep(IDLE_SECONDS)
        found["idle"] = _risen(before, parts.counts(), IDLE_SECONDS)
        ended = HTTP.get(f"{parts.stage.url}/runs/counts").json()["counts"]
        assert ended == {"COMPLETED": parts.submitted}
    return found


def _risen(before: Counts, after: Counts, by: float) -> Counts:
    return {row: (after[row] - before[row]) / by for row in after}
