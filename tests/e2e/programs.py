"""Starts the project's commands as real processes, and looks at what they leave behind."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import httpx

from ports import free_port

BIN = Path(sys.executable).parent
HTTP = httpx.Client(limits=httpx.Limits(max_keepalive_connections=0), timeout=60)
"""For all requests that wait for something: each of httpx's own functions first makes a context for TLS,
which takes twenty times as long as the request."""
TERMINAL = {"COMPLETED", "FAILED", "CANCELLED"}

SLOW_TASKS = """\
import os
import time


def work(seconds):
    time.sleep(seconds)
    return "done"


def slow_at_first(seconds):
    return work(seconds if os.environ["PYOCO_RUN_ATTEMPT"] == "1" else 0)
"""
FLOW_YAML = """\
version: 1
flow:
  graph: |
    add_one >> to_text
  defaults:
    x: 1
tasks:
  add_one:
    callable: pyoco_server._workflow_test_tasks:add_one
  to_text:
    callable: pyoco_server._workflow_test_tasks:to_text
"""


def wait_for(
    condition: Callable[[], Any], *, within: float = 60.0, every: float = 0.05, what: str = ""
) -> Any:
    """The first true value of ``condition``; fails the test after ``within`` seconds."""
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(every)
    raise AssertionError(f"not within {within:g} s: {what or condition}")


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in {"Z", "X"}


def descendants(pid: int) -> set[int]:
    """The process ids of all children of ``pid``, and theirs."""
    found: set[int] = set()
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in map(int, task.read_text().split()):
                found |= {child} | descendants(child)
    return found


@dataclass
class Program:
    """A running command."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def pid(self) -> int:
        return self.process.pid

    def text(self) -> str:
        return self.log.read_text(errors="replace")

    def send(self, number: int) -> None:
        self.process.send_signal(number)

    def wait(self, within: float = 60.0) -> int:
        try:
            return self.process.wait(within)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} did not end; it said:\n{self.text()}") from None

    def stop(self) -> None:
        """End it. Asked twice, a worker gives back what it executes, which no test waits for any more."""
        for patience in (0.5, 15):
            if self.process.poll() is not None:
                return
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(patience)
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(5)


@dataclass
class Stage:
    """A folder, an environment, and the programs that run there."""

    folder: Path
    env: dict[str, str]
    programs: list[Program] = field(default_factory=list)
    nats_port: int = field(default_factory=free_port)
    http_port: int = field(default_factory=free_port)

    @property
    def nats_url(self) -> str:
        return f"nats://127.0.0.1:{self.nats_port}"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http_port}"

    def start(
        self, *argv: str, executable: Path | None = None, env: Mapping[str, str] | None = None
    ) -> Program:
        path = (executable or BIN) / argv[0]
        log = self.folder / f"{len(self.programs)}-{argv[0]}.log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                [str(path), *argv[1:]],
                cwd=self.folder,
                env={**self.env, **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
            )
        program = Program(argv[0], process, log)
        self.programs.append(program)
        return program

    def run(self, *argv: str, executable: Path | None = None, within: float = 120.0) -> str:
        """Run a command to its end and return what it printed; it has to succeed."""
        done = subprocess.run(
            [str((executable or BIN) / argv[0]), *argv[1:]],
            cwd=self.folder,
            env=self.env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=within,
            check=False,
        )
        assert done.returncode == 0, f"{argv}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    # The usual cast

    def nats(self) -> Program:
        """A bare NATS server whose store survives it."""
        store = self.folder / "nats-store"
        program = self.start(
            "nats-server", "-js", "-a", "127.0.0.1", "-p", str(self.nats_port), "-sd", str(store)
        )
        wait_for(self.nats_answers, what="NATS")
        return program

    def nats_answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.nats_port), 0.5) as connection:
                return connection.recv(4) == b"INFO"
        except OSError:
            return False

    def gateway(self, *options: str) -> Program:
        program = self.start(
            "pyoco-server",
            "up",
            "--port",
            str(self.http_port),
            "--nats-url",
            self.nats_url,
            *options,
        )
        wait_for(self.ready, what="a ready gateway")
        return program

    def old_gateway(self, scripts: Path) -> Program:
        """The gateway of 0.5.1, whose scripts are in that folder."""
        program = self.start(
            *f"pyoco-server up --port {self.http_port} --nats-url {self.nats_url}".split(),
            executable=scripts,
            env={"PYTHONPATH": ""},
        )
        # It does not tell whether it is ready.
        wait_for(partial(self.answers, "/health"), what="the gateway of 0.5.1")
        return program

    def worker(self, *options: str, tags: str = "hello", worker_id: str = "w1") -> Program:
        return self.start(
            "pyoco-worker",
            "--nats-url",
            self.nats_url,
            "--tags",
            tags,
            "--worker-id",
            worker_id,
            *options,
        )

    def ready(self) -> bool:
        return self.answers("/health/ready")

    def answers(self, path: str) -> bool:
        """Whether a page of the gateway is there."""
        try:
            return HTTP.get(f"{self.url}{path}", timeout=5).status_code == 200
        except httpx.HTTPError:
            return False

    # What a client does

    def submit(self, flow_yaml: str = FLOW_YAML, tag: str = "hello") -> str:
        answer = HTTP.post(
            f"{self.url}/runs/yaml",
            files={"workflow": ("flow.yaml", flow_yaml.encode())},
            data={"flow_name": "main", "tag": tag},
        )
        assert answer.status_code == 200, answer.text
        run_id = answer.json()["run_id"]
        assert isinstance(run_id, str)
        return run_id

    def get(self, run_id: str) -> dict[str, Any]:
        answer = HTTP.get(f"{self.url}/runs/{run_id}", params={"include": "records"})
        assert answer.status_code == 200, answer.text
        snapshot: dict[str, Any] = answer.json()
        return snapshot

    def ended(self, run_id: str, within: float = 120.0) -> dict[str, Any]:
        """The terminal snapshot of a run."""

        def look() -> dict[str, Any] | None:
            try:
                snapshot = self.get(run_id)
            except (httpx.HTTPError, AssertionError):
                return None  # the gateway or NATS is away for the moment
            return snapshot if snapshot["status"] in TERMINAL else None

        snapshot: dict[str, Any] = wait_for(look, within=within, what=f"the end of run {run_id}")
        return snapshot

    def slow_flow(self, seconds: float, name: str = "slow_tasks") -> str:
        """A flow of one task that takes its time; importable by a worker with PYTHONPATH here."""
        (self.folder / f"{name}.py").write_text(SLOW_TASKS)
        return (
            "flow:\n  graph: work\n  defaults:\n"
            f"    seconds: {seconds}\n"
            f"tasks:\n  work:\n    callable: {name}:work\n"
        )


@contextlib.contextmanager
def open_stage(folder: Path) -> Iterator[Stage]:
    """A stage; every program is stopped in the end and none may leave a process behind."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("PYOCO_")}
    env |= {"PYOCO_LOAD_DOTENV": "0", "PYTHONPATH": str(folder), "COLUMNS": "100", "TERM": "dumb"}
    env["XDG_CONFIG_HOME"] = str(folder)  # whoever runs the tests may have profiles
    stage = Stage(folder, env)
    try:
        yield stage
        family = {pid for p in stage.programs for pid in descendants(p.pid)}
    finally:
        for program in reversed(stage.programs):
            program.stop()
    wait_for(lambda: not any(map(alive, family)), within=60, what=f"the end of processes {family}")


def last_json(text: str) -> dict[str, Any]:
    """The last JSON document that a command printed."""
    document: dict[str, Any] = json.loads(text.strip().splitlines()[-1])
    return document


URL = re.compile(r"http://127\.0\.0\.1:\d+")
KILL = signal.SIGKILL
