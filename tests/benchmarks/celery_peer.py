"""Celery 5 with Redis under the same load: acknowledged late, a file of all writes, four processes."""

from __future__ import annotations

import json
import re
import shutil
import socket
import statistics
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.draining import drained
from benchmarks.figures import Measures
from benchmarks.sizes import Sizes
from e2e.programs import Program, Stage, open_stage, wait_for
from ports import free_port


@dataclass
class Broker:
    """A Redis server, and what it takes to use it from Celery's environment."""

    scripts: Path
    stage: Stage
    port: int
    redis: Program

    def work(self) -> Program:
        """Start a worker with four processes."""
        return self.stage.start(
            *(
                "celery",
                "-A",
                "celery_app",
                "worker",
                "--concurrency",
                "4",
                "--loglevel",
                "WARNING",
            ),
            executable=self.scripts,
        )

    def load(self, what: str, task: str, count: int) -> list[float]:
        """Put load on it, from a process of its own; see `celery_app`."""
        said = self.stage.run(
            *("python", "celery_app.py", what, task, str(count)),
            executable=self.scripts,
            within=300,
        )
        took: list[float] = json.loads(said)
        return took

    def left(self) -> int:
        """How many jobs have not ended: waiting ones, and those that are not acknowledged."""
        with socket.create_connection(("127.0.0.1", self.port), 10) as connection:
            connection.sendall(b"LLEN celery\r\nHLEN unacked\r\n")
            answer = b""
            while answer.count(b"\r\n") < 2:
                answer += connection.recv(100)
        return sum(int(line[1:]) for line in answer.split())


@contextmanager
def open_broker(scripts: Path, folder: Path) -> Iterator[Broker]:
    """Start Redis.

    Raises:
        FileNotFoundError: There is no `redis-server`.
    """
    server = shutil.which("redis-server")
    if server is None:
        raise FileNotFoundError("redis-server: apt-get install redis-server")
    with open_stage(folder) as stage:
        shutil.copy(Path(__file__).with_name("celery_app.py"), folder)
        port = free_port()
        stage.env["REDIS"] = f"redis://127.0.0.1:{port}"
        stage.env["C_FORCE_ROOT"] = "1"
        redis = stage.start(
            *("redis-server", "--bind", "127.0.0.1", "--port", str(port), "--dir", str(folder)),
            *("--appendonly", "yes", "--appendfsync", "everysec", "--save", ""),
            executable=Path(server).parent,
        )
        broker = Broker(scripts, stage, port, redis)

        def answers() -> bool:
            try:
                return broker.left() == 0
            except (OSError, ValueError):
                return False

        wait_for(answers, what="Redis")
        yield broker


def submitting(scripts: Path, folder: Path, sizes: Sizes) -> Measures:
    """`delay` of a process that does nothing else."""
    with open_broker(scripts, folder) as broker:
        took = broker.load("submit", "noop", sizes.singles + 50)[50:]
        many = broker.load("submit", "noop", sizes.at_once + 50)[50:]
    return {"submit.one": statistics.median(took) * 1000, "submit.many": len(many) / sum(many)}


def ending(task: str, scripts: Path, folder: Path, sizes: Sizes) -> Measures:
    """`delay` and `get`."""
    with open_broker(scripts, folder) as broker:
        broker.work()
        took = broker.load("end", task, sizes.ends + 20)[20:]
    return {f"end.{task}": statistics.median(took) * 1000}


def draining(task: str, scripts: Path, folder: Path, sizes: Sizes) -> Measures:
    """A queue that is full when the worker starts."""
    count = sizes.drained if task == "noop" else sizes.drained_pauses
    with open_broker(scripts, folder) as broker:
        broker.load("submit", task, count)
        processes = {"work.worker": [broker.work().pid], "work.store": [broker.redis.pid]}
        found, words = drained(broker.left, count, processes)
    if words is not None:
        return {f"drain.{task}": words}
    work = {row: found[row] for row in processes} if task == "noop" else {}
    return {f"drain.{task}": found["rate"], **work}


def versions(scripts: Path) -> str:
    """What is measured."""
    celery = subprocess.run(
        [str(scripts / "celery"), "--version"], capture_output=True, text=True, check=True
    )
    redis = subprocess.run(
        ["redis-server", "--version"], capture_output=True, text=True, check=True
    )
    found = re.search(r"v=([\d.]+)", redis.stdout)
    return f"Celery {celery.stdout.split()[0]}, Redis {found[1] if found else redis.stdout}"
