"""Sessions that submit, cancel and read at two gateways, and remember what they were told."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx
import trio

from e2e.programs import TERMINAL, Program, Stage
from pyoco_server.client.wire import remember

FLOWS = """\
import time

from pyoco.core.models import Flow
from pyoco.dsl.syntax import task


@task
def work(seconds=0.0):
    time.sleep(seconds)


def resolve(name):
    return Flow(name=name) >> work
"""


@dataclass(frozen=True)
class Known:
    """What was told of a run."""

    status: str
    attempt: int

    def contradicts(self, later: Known | None) -> bool:
        """Whether an answer that came later cannot be, as one of the same run."""
        if later is None:
            return True
        if self.status in TERMINAL:
            return later.status != self.status
        back = self.status == "CANCELLING" and later.status in {"PENDING", "RUNNING"}
        return back or later.attempt < self.attempt


@dataclass
class Report:
    """What came of it.

    Attributes:
        violations: Answers that an earlier one contradicts.
        answers: How many, by kind; those that failed because something was away as well.
        submitted: All runs that were acknowledged.
    """

    violations: list[str] = field(default_factory=list)
    answers: Counter[str] = field(default_factory=Counter)
    submitted: set[str] = field(default_factory=set)


Knowledge = dict[str, Known]


def _learn(knowledge: Knowledge, told: Mapping[str, Known]) -> None:
    for run_id, known in told.items():
        before = knowledge.get(run_id)
        if before is None or not before.contradicts(known):
            knowledge[run_id] = known


@dataclass
class Session:
    """One client; its runs are those of a flow of its own, so that one list has all of them.

    Attributes:
        name: Of that flow.
        urls: The gateways.
        told: What each gateway has told of these runs, whomever.
        token: Whether it carries what it was told from one gateway to the other.
    """

    name: str
    urls: tuple[str, ...]
    report: Report
    rng: random.Random
    token: bool
    told: dict[str, Knowledge] = field(default_factory=dict)

    async def play(self, runs: int) -> None:
        """Submit so many runs; cancel some; read in between."""
        self.told = {url: {} for url in self.urls}
        async with httpx.AsyncClient(timeout=20) as client:
            submitted = 0
            while submitted < runs:
                submitted += await self._submit(client)
                await self._list(client)
                if self.rng.random() < 0.4:
                    await self._cancel(client)
                await self._look(client)
                await self._count(client)

    async def settle(self, client: httpx.AsyncClient, url: str) -> bool:
        """Whether all runs have ended, as this gateway has it."""
        listed = await self._call(client, "list", "GET", url, f"/runs?flow={self.name}&limit=200")
        if listed is None:
            return False
        return all(item["status"] in TERMINAL for item in listed)

    @property
    def run_ids(self) -> list[str]:
        """The runs that it was told of."""
        return sorted({run_id for knowledge in self.told.values() for run_id in knowledge})

    async def _submit(self, client: httpx.AsyncClient) -> bool:
        seconds = self.rng.choice([0.0, 0.0, 0.02, 0.3])
        body = {"flow_name": self.name, "tag": "hello", "params": {"seconds": seconds}}
        url = self.rng.choice(self.urls)
        answer = await self._call(client, "submit", "POST", url, "/runs", json=body)
        if answer is not None:
            self.report.submitted.add(answer["run_id"])
            _learn(self.told[url], {answer["run_id"]: Known("PENDING", 0)})
        return answer is not None

    async def _cancel(self, client: httpx.AsyncClient) -> None:
        if self.run_ids:
            url, run_id = self.rng.choice(self.urls), self.rng.choice(self.run_ids)
            answer = await self._call(client, "cancel", "POST", url, f"/runs/{run_id}/cancel")
            if answer is not None:
                _learn(self.told[url], _known([answer]))

    async def _look(self, client: httpx.AsyncClient) -> None:
        if self.run_ids:
            url, run_id = self.rng.choice(self.urls), self.rng.choice(self.run_ids)
            expected = self._expected(url)
            answer = await self._call(client, "look", "GET", url, f"/runs/{run_id}")
            if answer is not None:
                told = _known([answer])
                self._judge(url, {run_id: expected[run_id]} if run_id in expected else {}, told)

    async def _list(self, client: httpx.AsyncClient, url: str | None = None) -> None:
        url = url or self.rng.choice(self.urls)
        expected = self._expected(url)
        path = f"/runs?flow={self.name}&limit=200"
        answer = await self._call(client, "list", "GET", url, path)
        if answer is not None:
            self._judge(url, expected, _known(answer))

    async def _count(self, client: httpx.AsyncClient, url: str | None = None) -> None:
        url = url or self.rng.choice(self.urls)
        expected = self._expected(url)
        answer = await self._call(client, "count", "GET", url, f"/runs/counts?flow={self.name}")
        if answer is None:
            return
        for status in TERMINAL:
            least = sum(known.status == status for known in expected.values())
            if answer["counts"].get(status, 0) < least:
                self.report.violations.append(f"{url}: {answer['counts']} with {least} {status}")
        if answer["total"] < len(expected):
            self.report.violations.append(f"{url}: {answer['total']} of {len(expected)} counted")

    def _expected(self, url: str) -> Knowledge:
        """What an answer of this gateway may not contradict that is asked for now."""
        expected = dict(self.told[url])
        if self.token:
            for knowledge in self.told.values():
                _learn(expected, knowledge)
        return expected

    def _judge(self, url: str, expected: Knowledge, told: Knowledge) -> None:
        for run_id, known in expected.items():
            if known.contradicts(told.get(run_id)):
                self.report.violations.append(
                    f"{url}: run {run_id} was {known}, and then {told.get(run_id)}"
                )
        _learn(self.told[url], told)

    async def _call(
        self, client: httpx.AsyncClient, kind: str, method: str, url: str, path: str, **body: Any
    ) -> Any:
        """The answer; None where it is none, or says that it may be behind."""
        try:
            answer = await client.request(method, f"{url}{path}", **body)
        except httpx.HTTPError:
            self.report.answers[f"{kind} broken"] += 1
            await trio.sleep(0.05)
            return None
        if self.token:
            remember(client.headers, answer)
        stale = "X-Pyoco-Stale" in answer.headers
        self.report.answers[f"{kind} stale" if stale else f"{kind} {answer.status_code}"] += 1
        return None if stale or answer.status_code != 200 else answer.json()


def _known(items: Iterable[Mapping[str, Any]]) -> Knowledge:
    return {item["run_id"]: Known(item["status"], item["attempt"] or 0) for item in items}


async def drill(stages: tuple[Stage, Stage], sessions: int, runs: int, seed: int) -> Report:
    """Play sessions of so many runs each, while a worker and a gateway are killed and started again."""
    report = Report()
    urls = tuple(stage.url for stage in stages)
    played = [
        Session(f"s{n}", urls, report, random.Random(f"{seed}:{n}"), token=n % 2 == 0)
        for n in range(sessions)
    ]
    first, second = stages
    (first.folder / "flows.py").write_text(FLOWS)
    resolver = ("--flow-resolver", "flows.py:resolve", "--slots", "2")
    first.worker(*resolver, worker_id="steady")
    worker = first.worker(*resolver, worker_id="killed")

    async def killed(program: Program, share: float) -> None:
        with trio.fail_after(300):
            while len(report.submitted) < share * sessions * runs:
                await trio.sleep(0.02)
        program.process.kill()
        await trio.to_thread.run_sync(program.wait)

    async def troubles() -> None:
        await killed(worker, 0.3)
        first.worker(*resolver, worker_id="killed")
        gateway = next(p for p in second.programs if p.name == "pyoco-server")
        await killed(gateway, 0.6)
        await trio.to_thread.run_sync(second.gateway)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(troubles)
        for session in played:
            nursery.start_soon(session.play, runs)
    async with httpx.AsyncClient(timeout=20) as client:
        with trio.fail_after(120):
            for session in played:
                for url in urls:
                    while not await session.settle(client, url):
                        await trio.sleep(0.05)
        for session in played:
            for url in urls:
                await session._list(client, url)
                await session._count(client, url)
    return report
