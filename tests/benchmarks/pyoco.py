"""pyoco-server under load, ours or 0.5.1: NATS, a gateway and workers with four slots, by their commands."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.client import HTTPConnection
from pathlib import Path
from typing import Final

from benchmarks.draining import drained
from benchmarks.figures import OURS, Measures
from benchmarks.processes import processor_ms
from benchmarks.sizes import Sizes
from benchmarks.wire import (
    Wire,
    all_at_once,
    client_work,
    one_by_one,
    opened,
    post,
    until_polled,
    until_watched,
)
from e2e.programs import Program, Stage, open_stage, wait_for
from ports import free_port

TAG: Final = "hello"
FLOWS: Final = """\
import time

from pyoco.core.models import Flow
from pyoco.dsl.syntax import task


@task
def first():
    return None


@task
def second():
    return None


@task
def pause():
    time.sleep(0.02)


def resolve(name):
    return Flow(name=name) >> pause if name == "pause" else Flow(name=name) >> first >> second
"""
_WARM_UP: Final = 20
_END_SECONDS: Final = 5.0
"""A run that takes milliseconds and has not ended after this time never will."""


@dataclass(frozen=True)
class Version:
    """Which commands are measured.

    Attributes:
        name: The system's name in the figures.
        scripts: The folder that they are in.
        processes: How many workers it takes to execute four runs at the same time.
    """

    name: str
    scripts: Path
    processes: int = 1


@dataclass
class Installation:
    """NATS, a gateway and, when `work` was called, workers."""

    version: Version
    stage: Stage
    monitor: HTTPConnection
    nats: Program
    gateway: Program = field(init=False)

    @property
    def port(self) -> int:
        """Where the gateway listens."""
        return self.stage.http_port

    def start_gateway(self) -> float:
        """Start a gateway; return after how many seconds it was ready."""
        ours = self.version.name == OURS
        stage = self.stage
        began = time.perf_counter()
        self.gateway = stage.start(
            *("pyoco-server", "up", "--port", str(stage.http_port), "--nats-url", stage.nats_url),
            executable=self.version.scripts,
            env={} if ours else {"PYTHONPATH": ""},
        )
        path = "/health/ready" if ours else "/health"  # 0.5.1 does not tell whether it is ready
        wait_for(
            partial(stage.answers, path), every=0.01, what=f"the gateway of {self.version.name}"
        )
        return time.perf_counter() - began

    def work(self) -> list[Program]:
        """Start workers with four slots together."""
        ours = self.version.name == OURS
        count = self.version.processes
        return [
            self.stage.start(
                *("pyoco-worker", "--nats-url", self.stage.nats_url, "--tags", TAG),
                *("--worker-id", f"w{number}", "--flow-resolver", "flows.py:resolve"),
                *(("--slots", str(4 // count)) if ours else ()),
                executable=self.version.scripts,
                env={} if ours else {"PYTHONPATH": ""},
            )
            for number in range(count)
        ]

    def wait_calm(self) -> None:
        """Wait until the gateway does next to nothing; what was written is work for it some time longer."""

        def calm() -> bool:
            before = processor_ms(self.gateway.pid)
            time.sleep(0.5)
            return processor_ms(self.gateway.pid) - before <= 20

        wait_for(calm, within=180, what="a gateway that rests")

    def left(self) -> int:
        """How many jobs have not ended: a job leaves the stream when the end of its run is stored."""
        self.monitor.request("GET", "/jsz?streams=true")
        (account,) = json.load(self.monitor.getresponse())["account_details"]
        found: dict[str, int] = {
            each["name"]: each["state"]["messages"] for each in account["stream_detail"]
        }
        return found.get("PYOCO_WORK", 0)


def submission(flow: str) -> bytes:
    """The request that submits a run."""
    return post("/runs", json.dumps({"flow_name": flow, "tag": TAG}).encode())


def submit_many(installation: Installation, flow: str, count: int, batch: int) -> float:
    """Submit runs the fastest way that there is; return how many a second were taken."""
    if installation.version.name != OURS:
        return all_at_once(installation.port, submission(flow), count, 32)
    with Wire(installation.port) as wire:
        began = time.perf_counter()
        for first in range(0, count, batch):
            runs = [{"flow_name": flow, "tag": TAG}] * min(batch, count - first)
            answer = json.loads(wire.ask(post("/runs/batch", json.dumps({"runs": runs}).encode())))
            assert answer["accepted"] == len(runs), answer
        return count / (time.perf_counter() - began)


@contextmanager
def open_installation(version: Version, folder: Path) -> Iterator[Installation]:
    """Start NATS and a gateway. What NATS stores is on the disk within a second, as it is with Redis."""
    with open_stage(folder) as stage, ExitStack() as stack:
        stage.env["PYOCO_LOG_LEVEL"] = "WARNING"  # as Celery, whose default it is
        (folder / "flows.py").write_text(FLOWS)
        monitor = free_port()
        (folder / "nats.conf").write_text(
            f"host: 127.0.0.1\nport: {stage.nats_port}\nhttp: '127.0.0.1:{monitor}'\n"
            f"jetstream {{ store_dir: '{folder}/nats-store', sync_interval: 1s }}\n"
        )
        nats = stage.start("nats-server", "-c", "nats.conf")
        wait_for(stage.nats_answers, every=0.01, what="NATS")
        told = HTTPConnection("127.0.0.1", monitor, timeout=60)
        stack.callback(told.close)
        installation = Installation(version, stage, told, nats)
        installation.start_gateway()
        yield installation


def submitting(version: Version, folder: Path, sizes: Sizes) -> Measures:
    """Submissions, without a worker."""
    request = submission("noop")
    with open_installation(version, folder) as installation:
        port = installation.port
        one_by_one(port, request, 50)  # what is imported late is imported
        with client_work() as work:
            one = one_by_one(port, request, sizes.singles)
        found = {
            "submit.one": statistics.median(one) * 1000,
            "client.one": work[0] * 1000 / sizes.singles,
        }
        with client_work() as work:
            found["submit.many"] = all_at_once(port, request, sizes.at_once, 32)
        found["client.many"] = work[0] * 1000 / sizes.at_once
        if version.name == OURS:
            submit_many(installation, "noop", sizes.batch, sizes.batch)
            found["submit.batch"] = submit_many(installation, "noop", sizes.batched, sizes.batch)
        return found


def ending(flow: str, version: Version, folder: Path, sizes: Sizes) -> Measures:
    """How long from the submission of a single run until its client knows that it is COMPLETED.

    The end is learnt the fastest way that there is: ours are watched over connections that are open before;
    the watch of 0.5.1 looks twice a second, so its runs are asked for every millisecond.
    """
    learn = _watched if version.name == OURS else _polled
    count = _WARM_UP + sizes.ends
    took = [0.0] * count
    with open_installation(version, folder) as installation, Wire(installation.port) as wire:
        installation.work()
        wire.ask(submission("pause"))
        wait_for(lambda: not installation.left(), within=60, what="a worker that has started")
        for number in range(count):
            try:
                took[number] = learn(installation, wire, flow)
            except TimeoutError:
                return {f"end.{flow}": f"hangs after {number} of {count}"}
    return {f"end.{flow}": statistics.median(took[_WARM_UP:]) * 1000}


def _watched(installation: Installation, wire: Wire, flow: str) -> float:
    with opened(installation.port) as events:
        events.settimeout(_END_SECONDS)
        began = time.perf_counter()
        until_watched(events, json.loads(wire.ask(submission(flow)))["run_id"])
        return time.perf_counter() - began


def _polled(installation: Installation, wire: Wire, flow: str) -> float:
    began = time.perf_counter()
    run_id = json.loads(wire.ask(submission(flow)))["run_id"]
    until_polled(wire, run_id, pause=0.001, within=_END_SECONDS)
    return time.perf_counter() - began


def draining(flow: str, version: Version, folder: Path, sizes: Sizes) -> Measures:
    """How fast a full queue is emptied, and the work of a run from its submission to its end."""
    count = sizes.drained if flow == "noop" else sizes.drained_pauses
    with open_installation(version, folder) as installation:
        before = [processor_ms(installation.gateway.pid), processor_ms(installation.nats.pid)]
        submit_many(installation, flow, count, sizes.batch)
        time.sleep(0.5)
        submitted = [
            processor_ms(installation.gateway.pid) - before[0],
            processor_ms(installation.nats.pid) - before[1],
        ]
        workers = installation.work()
        processes = {
            "work.gateway": [installation.gateway.pid],
            "work.worker": [worker.pid for worker in workers],
            "work.store": [installation.nats.pid],
        }
        found, words = drained(installation.left, count, processes)
    if words is not None:
        return {f"drain.{flow}": words}
    measures = {f"drain.{flow}": found["rate"]}
    if flow == "noop":
        measures |= {row: found[row] for row in processes}
        measures["work.gateway"] += submitted[0] / count
        measures["work.store"] += submitted[1] / count
    return measures
