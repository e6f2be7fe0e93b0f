"""Cancels that come at any moment of a run, between real processes: none is lost, and how long each takes."""

from __future__ import annotations

import random
import statistics
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx
import trio

from e2e.programs import TERMINAL, Stage
from pyoco_server.client.aio import AsyncPyocoHttpClient

GRACE_SECONDS = 1.0
_SLOTS = 6
# More than slots, so that some are cancelled while they wait for one.
_CLIENTS = 7

FLOWS = """\
import time

from pyoco.core.models import Flow
from pyoco.dsl.syntax import task


def step(number):
    def cooperates(ctx, seconds=0.0):
        end = time.time() + seconds / 10
        while time.time() < end and not ctx.is_cancelled:
            time.sleep(0.005)

    cooperates.__name__ = f"step_{number}"
    return task(cooperates)


STEPS = [step(number) for number in range(10)]


@task
def ignores(seconds=0.0):
    time.sleep(seconds)


def resolve(name):
    flow = Flow(name=name)
    for each in STEPS if name == "cooperates" else [ignores]:
        flow >> each
    return flow
"""


@dataclass
class Report:
    """What became of the cancels of one flow.

    Attributes:
        flow: Which.
        lost: Runs that ended otherwise than the answer to their cancel said, or did not end.
        answers: Statuses that cancels were answered with.
        found: How far runs were when their cancel was stored: PENDING, or the number of tasks begun.
        seconds: From each request to when a watcher saw CANCELLED.
    """

    flow: str
    lost: list[str] = field(default_factory=list)
    answers: Counter[str] = field(default_factory=Counter)
    found: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)

    @property
    def p50(self) -> float:
        return statistics.median(self.seconds)

    @property
    def p99(self) -> float:
        return statistics.quantiles(self.seconds, n=100)[98]

    def __str__(self) -> str:
        return (
            f"{self.answers.total()} cancels of a flow that {self.flow}: lost {len(self.lost)}; "
            f"answers {dict(self.answers)}; found {dict(sorted(self.found.items()))}; "
            f"to CANCELLED p50 {self.p50:.3f} s, p99 {self.p99:.3f} s, max {max(self.seconds):.3f} s"
        )


def cancel_trials(stage: Stage, flow: str, trials: int, seed: int) -> Report:
    """Cancel so many runs of "cooperates" or "ignores", each at a moment of its own."""
    (stage.folder / "cancel_flows.py").write_text(FLOWS)
    stage.env["PYOCO_CANCEL_GRACE_PERIOD_SEC"] = str(GRACE_SECONDS)
    stage.nats()
    stage.gateway()
    stage.worker("--slots", str(_SLOTS), "--flow-resolver", "cancel_flows.py:resolve")
    stage.ended(stage.submit())
    return trio.run(_trials, stage, flow, trials, random.Random(seed))


async def _trials(stage: Stage, flow: str, trials: int, rng: random.Random) -> Report:
    report = Report(flow)
    left = iter(range(trials))
    ends: dict[str, str] = {}

    async def client() -> None:
        async with AsyncPyocoHttpClient(stage.url) as http:
            for _ in left:
                await _trial(http, report, ends, rng)

    async with trio.open_nursery() as nursery:
        for _ in range(_CLIENTS):
            nursery.start_soon(client)
    # An end is one for good: nothing that came late has changed it.
    async with AsyncPyocoHttpClient(stage.url) as http:
        for run_id, status in ends.items():
            if (await http.get_run(run_id))["status"] != status:
                report.lost.append(run_id)
    return report


async def _trial(
    http: AsyncPyocoHttpClient, report: Report, ends: dict[str, str], rng: random.Random
) -> None:
    seconds = rng.choice([0.1, 0.5, 1.0, 3.0])
    run_id = (await http.submit_run(report.flow, {"seconds": seconds}, tag="hello"))["run_id"]
    # From at once to a little after its end, had it a slot to itself.
    await trio.sleep(rng.uniform(0, seconds * 1.2) * rng.choice([0, 1, 1, 1, 1, 1, 1, 1]))
    began = trio.current_time()
    answer = await http.cancel_run(run_id)
    report.answers[answer["status"]] += 1
    report.found[_phase(answer)] += 1
    with trio.move_on_after(60):
        try:
            end = await http.wait_run(run_id)
        except httpx.HTTPError as error:
            report.lost.append(f"{run_id}: {error}")
            return
        took = trio.current_time() - began
        ends[run_id] = end["status"]
        asked = answer["status"] not in TERMINAL
        if end["status"] != ("CANCELLED" if asked else answer["status"]):
            report.lost.append(run_id)
        elif asked:
            report.seconds.append(took)
        return
    report.lost.append(f"{run_id}: no end")


def _phase(answer: Mapping[str, Any]) -> str:
    if answer["status"] in TERMINAL:
        return "ended"
    if answer["worker_id"] is None:
        return "waiting"
    return f"in task {sum(state != 'PENDING' for state in answer['tasks'].values()):2}"
