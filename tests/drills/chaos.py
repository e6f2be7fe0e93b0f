"""The drill of real processes: mixed load on a gateway and workers while everything is killed at random."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import trio

from e2e.programs import Program, Stage, alive, descendants, wait_for
from pyoco_server.jetstream.api import call
from pyoco_server.jetstream.connection import ConnectionOptions, open_connection
from pyoco_server.jetstream.consumer import Message
from pyoco_server.jetstream.follow import Follower
from pyoco_server.model.run import RunStatus, decode_snapshot
from pyoco_server.scenario.history import (
    CancelAnswer,
    Execution,
    History,
    Outcome,
    Revision,
    Submission,
)
from pyoco_server.scenario.judge import Violation, judge

TAG = "hello"
_CLIENTS = 3
_PATIENCE_SECONDS = 90.0
_ENVIRONMENT = {
    "PYOCO_CONSUMER_ACK_WAIT_SEC": "3",
    "PYOCO_REAPER_INTERVAL_SEC": "2",
    "PYOCO_RUN_ORPHAN_AFTER_SEC": "10",
    "PYOCO_CANCEL_GRACE_PERIOD_SEC": "1",
    "PYOCO_LOG_LEVEL": "WARNING",
    "PYOCO_WORKER_DRAIN_TIMEOUT_SEC": "2",
}

FLOWS = '''\
"""Flows that tell of each start and end in a file."""

import json
import os
import time
from pathlib import Path

from pyoco.core.models import Flow
from pyoco.dsl.syntax import task

HISTORY = Path(__file__).with_name("history.jsonl")


def tell(what):
    line = {
        "what": what,
        "run_id": os.environ["PYOCO_RUN_ID"],
        "attempt": int(os.environ["PYOCO_RUN_ATTEMPT"]),
        "pid": os.getpid(),
        "at": time.time(),
    }
    out = os.open(HISTORY, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(out, (json.dumps(line) + "\\n").encode())
    os.close(out)


def work(ticket="", seconds=0.0, end="ok"):
    tell("began")
    time.sleep(seconds)
    if end == "raise":
        tell("ended")
        raise ValueError("it broke")
    if end == "crash":
        os._exit(3)
    tell("ended")
    return ticket


task_of_work = task(work)


def resolve(name):
    return Flow(name=name) >> task_of_work
'''

YAML = """\
flow:
  graph: work
  defaults: {{ticket: "{ticket}", seconds: {seconds}, end: {end}}}
tasks:
  work: {{callable: "flows:work"}}
"""


@dataclass
class Report:
    """What a drill came to."""

    seed: int
    seconds: float
    runs: int
    ended: Counter[str]
    attempts: int
    kills: Counter[str]
    recoveries: list[float]
    cancels: int
    violations: list[Violation] = field(default_factory=list)

    def __str__(self) -> str:
        times = sorted(self.recoveries) or [0.0]
        p99 = times[min(len(times) - 1, int(len(times) * 0.99))]
        kills = ", ".join(f"{n} {s}" for s, n in sorted(self.kills.items()))
        lines = [
            f"chaos drill, seed {self.seed}, {self.seconds:.0f} s of load",
            f"  runs {self.runs} ({', '.join(f'{n} {s}' for s, n in sorted(self.ended.items()))})",
            f"  attempts {self.attempts}, cancels {self.cancels}",
            f"  kills {self.kills.total()} ({kills})",
            f"  recovery p50 {statistics.median(times):.2f} s, p99 {p99:.2f} s, of {len(times)}",
            f"  violations {len(self.violations)}",
        ]
        return "\n".join([*lines, *(f"    {each}" for each in self.violations)])


class Chaos:
    """One drill on a stage.

    Args:
        stage: Where the processes run.
        seed: Decides what is submitted and what is killed.
        seconds: How long.
    """

    def __init__(self, stage: Stage, seed: int, seconds: float) -> None:
        self.stage = stage
        self.rng = random.Random(seed)
        self.seed = seed
        self.seconds = seconds
        self.history = History()
        self.kills: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._number = 0
        self.workers: list[Program] = []

    def run(self) -> Report:
        """Do it all, and judge."""
        (self.stage.folder / "flows.py").write_text(FLOWS)
        self.stage.env |= _ENVIRONMENT
        self.nats = self.stage.nats()
        trio.run(self._keep_every_revision)
        self.gateway = self.stage.gateway()
        self.workers = [self._worker(index) for index in range(2)]
        self._recovered(time.monotonic())
        self.history.recoveries.clear()
        clients = [
            threading.Thread(target=self._client, args=(random.Random(f"{self.seed}/{index}"),))
            for index in range(_CLIENTS)
        ]
        for client in clients:
            client.start()
        try:
            self._sabotage()
        finally:
            self._stop.set()
            for client in clients:
                client.join(_PATIENCE_SECONDS)
        assert not any(client.is_alive() for client in clients), "a client has no answer yet"
        self._wait_for_ends()
        family = self._stop_all()
        self._read_executions()
        with contextlib.suppress(AssertionError):
            wait_for(lambda: not any(map(alive, family)), within=10)
        self.history.left_processes += [str(pid) for pid in family if alive(pid)]
        return self._report()

    # Processes -----------------------------------------------------------------------------------

    def _worker(self, index: int) -> Program:
        return self.stage.worker(
            "--slots", "2", "--flow-resolver", "flows.py:resolve", worker_id=f"w{index}"
        )

    def _sabotage(self) -> None:
        until = time.monotonic() + self.seconds
        means: dict[str, Callable[[], None]] = {
            "worker": self._kill_worker,
            "child": self._kill_child,
            "gateway": self._kill_gateway,
            "nats-server": self._kill_nats,
            "worker paused": self._pause_worker,
            "worker stopped": self._stop_worker,
        }
        while time.monotonic() < until:
            self._stop.wait(self.rng.uniform(0.5, 2.5))
            what = self.rng.choice(sorted(means))
            means[what]()
            self.kills[what] += 1
            self._recovered(time.monotonic())

    def _gone(self, program: Program, family: set[int]) -> None:
        """Note what a killed program left behind (I4)."""
        program.wait(15)
        with contextlib.suppress(AssertionError):
            wait_for(lambda: not any(map(alive, family)), within=10)
        self.history.left_processes += [str(pid) for pid in family if alive(pid)]

    def _kill_worker(self) -> None:
        index = self.rng.randrange(2)
        family = descendants(self.workers[index].pid)
        self.workers[index].send(signal.SIGKILL)
        self._gone(self.workers[index], family)
        self._stop.wait(self.rng.choice([0.0, 1.0]))
        self.workers[index] = self._worker(index)

    def _stop_worker(self) -> None:
        index = self.rng.randrange(2)
        family = descendants(self.workers[index].pid)
        self.workers[index].send(signal.SIGTERM)
        self._gone(self.workers[index], family)
        self.workers[index] = self._worker(index)

    def _pause_worker(self) -> None:
        """Longer than the lease of its runs."""
        worker = self.rng.choice(self.workers)
        worker.send(signal.SIGSTOP)
        self._stop.wait(5.0)
        worker.send(signal.SIGCONT)

    def _kill_child(self) -> None:
        family = sorted(descendants(self.rng.choice(self.workers).pid))
        children = [pid for pid in family if b"runner" in _command(pid)]
        if children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.rng.choice(children), signal.SIGKILL)

    def _kill_gateway(self) -> None:
        family = descendants(self.gateway.pid)
        self.gateway.send(signal.SIGKILL)
        self._gone(self.gateway, family)
        self.gateway = self.stage.gateway()

    def _kill_nats(self) -> None:
        self.nats.send(signal.SIGKILL)
        self.nats.wait()
        self._stop.wait(self.rng.choice([0.0, 1.0, 3.0]))
        self.nats = self.stage.nats()

    def _recovered(self, since: float) -> None:
        """Submit a run and wait for its end (I6)."""
        with httpx.Client(base_url=self.stage.url, timeout=10) as client:
            run_id = self._submit(client, self.rng, "quick", 0.0, "ok", keyed=True)
            if run_id is None:
                self.history.recoveries.append(float("inf"))
                return
            ended = _until(lambda: self._status(client, run_id) in _TERMINAL, _PATIENCE_SECONDS)
        self.history.recoveries.append(time.monotonic() - since if ended else float("inf"))

    def _stop_all(self) -> set[int]:
        family: set[int] = set()
        for program in (*self.workers, self.gateway, self.nats):
            family |= descendants(program.pid)
        for program in (*self.workers, self.gateway):
            program.stop()
        trio.run(self._read_revisions)
        self.nats.stop()
        return family

    # Load ----------------------------------------------------------------------------------------

    def _client(self, rng: random.Random) -> None:
        with httpx.Client(base_url=self.stage.url, timeout=10) as client:
            while not self._stop.is_set():
                self._act(client, rng)
                self._stop.wait(rng.uniform(0.2, 0.8))

    def _act(self, client: httpx.Client, rng: random.Random) -> None:
        kind = rng.choice(["quick", "quick", "slow", "failing", "yaml", "cancelled", "batch"])
        seconds = rng.uniform(0.5, 3.0) if kind in ("slow", "cancelled") else 0.0
        end = rng.choice(["raise", "crash"]) if kind == "failing" else "ok"
        if kind == "batch":
            self._batch(client, rng)
            return
        keyed = rng.random() < 0.85
        run_id = self._submit(client, rng, kind, seconds, end, keyed=keyed)
        if kind == "cancelled" and run_id is not None:
            self._stop.wait(rng.choice([0.0, 0.1, 0.5, 2.0]))
            self._cancel(client, run_id)

    def _ticket(self) -> str:
        with self._lock:
            self._number += 1
            return f"t{self._number}"

    def _note(self, ticket: str, outcome: Outcome, run_id: str | None) -> None:
        with self._lock:
            self.history.submitted(Submission(ticket, outcome, run_id), "drill", time.time())

    def _submit(
        self,
        client: httpx.Client,
        rng: random.Random,
        kind: str,
        seconds: float,
        end: str,
        *,
        keyed: bool,
    ) -> str | None:
        """Submit a run; with a key until there is an answer."""
        ticket = self._ticket()
        params = {"ticket": ticket, "seconds": seconds, "end": end}
        headers = {"X-Request-ID": ticket}
        if keyed:
            headers["Idempotency-Key"] = f"{self.seed}-{ticket}"
        named = None
        until = time.monotonic() + _PATIENCE_SECONDS
        outcome: Outcome = "unknown"
        while time.monotonic() < until:
            try:
                if kind == "yaml":
                    text = YAML.format(**params).encode()
                    answer = client.post(
                        "/runs/yaml",
                        files={"workflow": ("flow.yaml", text)},
                        data={"flow_name": "main", "tag": TAG},
                        headers=headers,
                    )
                else:
                    body = {"flow_name": kind, "params": params, "tag": TAG}
                    answer = client.post("/runs", json=body, headers=headers)
            except httpx.ConnectError:
                outcome = "refused"
            except httpx.HTTPError:
                outcome = "unknown"
            else:
                if answer.status_code == 200:
                    run_id = str(answer.json()["run_id"])
                    self._note(ticket, "accepted", run_id)
                    return run_id
                assert answer.status_code == 503, answer.text
                named = answer.json().get("run_id") or named
                outcome = "refused"
            if not keyed:
                break
            time.sleep(rng.uniform(0.05, 0.5))
        self._note(ticket, outcome, named)
        return None

    def _batch(self, client: httpx.Client, rng: random.Random) -> None:
        batch = self._ticket()
        tickets = {f"{batch}-{number}": None for number in range(rng.choice([2, 5]))}
        until = time.monotonic() + _PATIENCE_SECONDS
        while tickets and time.monotonic() < until:
            runs = [
                {
                    "flow_name": "batch",
                    "params": {"ticket": ticket},
                    "tag": TAG,
                    "idempotency_key": f"{self.seed}-{ticket}",
                }
                for ticket in tickets
            ]
            with contextlib.suppress(httpx.HTTPError):
                answer = client.post(
                    "/runs/batch", json={"runs": runs}, headers={"X-Request-ID": batch}
                )
                assert answer.status_code in (200, 503), answer.text
                items = answer.json().get("items", [])
                for ticket, item in zip(tuple(tickets), items, strict=False):
                    if "run_id" in item:
                        self._note(batch, "accepted", item["run_id"])
                        del tickets[ticket]
            if tickets:
                time.sleep(rng.uniform(0.05, 0.5))
        for _ in tickets:
            self._note(batch, "unknown", None)

    def _cancel(self, client: httpx.Client, run_id: str) -> None:
        until = time.monotonic() + _PATIENCE_SECONDS
        while time.monotonic() < until:
            with contextlib.suppress(httpx.HTTPError):
                answer = client.post(f"/runs/{run_id}/cancel")
                if answer.status_code == 200:
                    status = RunStatus(answer.json()["status"])
                    with self._lock:
                        self.history.cancels.append(CancelAnswer(run_id, status, time.time()))
                    return
            time.sleep(0.2)

    def _status(self, client: httpx.Client, run_id: str) -> str | None:
        try:
            answer = client.get(f"/runs/{run_id}")
        except httpx.HTTPError:
            return None
        return answer.json().get("status") if answer.status_code == 200 else None

    def _wait_for_ends(self) -> None:
        """Wait for the end of every accepted run; the judge says which have none."""
        waiting = set(self.history.accepted)
        with httpx.Client(base_url=self.stage.url, timeout=10) as client:

            def all_ended() -> bool:
                for run_id in tuple(waiting):
                    if self._status(client, run_id) not in _TERMINAL:
                        return False
                    waiting.discard(run_id)
                return True

            _until(all_ended, _PATIENCE_SECONDS)

    # History -------------------------------------------------------------------------------------

    async def _keep_every_revision(self) -> None:
        """Make the runs bucket before the gateway does, without its limit of one revision a key."""
        async with open_connection(ConnectionOptions(urls=(self.stage.nats_url,))) as connection:
            await connection.wait_connected(within=20)
            config = {
                "name": "KV_pyoco_runs",
                "subjects": ["$KV.pyoco_runs.>"],
                "max_msgs_per_subject": -1,
                "storage": "file",
                "discard": "new",
                "allow_rollup_hdrs": True,
                "deny_delete": True,
                "allow_direct": True,
                "allow_msg_ttl": True,
                "num_replicas": 1,
            }
            await call(connection, "STREAM.CREATE.KV_pyoco_runs", config, answer=dict)

    async def _read_revisions(self) -> None:
        async with open_connection(ConnectionOptions(urls=(self.stage.nats_url,))) as connection:
            await connection.wait_connected(within=20)
            follower = Follower(connection, "KV_pyoco_runs", "$KV.pyoco_runs.>", start="all")
            async with contextlib.aclosing(follower.messages()) as messages:
                async for message in messages:
                    if not isinstance(message, Message):
                        return
                    run_id = message.subject.removeprefix("$KV.pyoco_runs.")
                    gone = "KV-Operation" in message.headers
                    self.history.revisions[run_id].append(
                        Revision(
                            run_id,
                            message.stream_sequence,
                            None if gone else decode_snapshot(message.data),
                            message.delivery.timestamp,
                        )
                    )

    def _read_executions(self) -> None:
        path = self.stage.folder / "history.jsonl"
        began: dict[tuple[str, int, int], Execution] = {}
        for line in path.read_text().splitlines():
            told: dict[str, Any] = json.loads(line)
            key = (told["run_id"], told["attempt"], told["pid"])
            if told["what"] == "began":
                began[key] = Execution(*key, "work", told["at"], None)
            elif key in began:
                first = began[key]
                began[key] = Execution(*key, "work", first.started, told["at"])
        self.history.executions = list(began.values())

    def _report(self) -> Report:
        lasts = map(self.history.last, self.history.revisions)
        ended = Counter(last.status.value for last in lasts if last is not None)
        return Report(
            self.seed,
            self.seconds,
            ended.total(),
            ended,
            len(self.history.executions),
            self.kills,
            self.history.recoveries,
            len(self.history.cancels),
            judge(self.history),
        )


_TERMINAL = {"COMPLETED", "FAILED", "CANCELLED"}


def _until(condition: Callable[[], bool], within: float) -> bool:
    """Whether a condition came true in time."""
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.05)
    return False


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
