"""The processes of the cast: NATS servers, gateways and workers, and the folder that they share."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

import trio

from pyoco_server.background import started
from pyoco_server.process import OwnedProcess, spawn_owned
from pyoco_server.worker.runner.kin import descendants

_STOP_SECONDS = 45.0
_GONE_SECONDS = 5.0
_LEAVE_SECONDS = 10.0
_LOOK_SECONDS = 0.05


def free_port() -> int:
    """A port that nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Relative(NamedTuple):
    """A process by its id and by when it began, since ids are used again."""

    pid: int
    began: str

    @property
    def alive(self) -> bool:
        """Whether it runs still."""
        return started(self.pid) == self.began


@dataclass
class Program:
    """A process of the cast, over its lives.

    Attributes:
        name: Its name in the scenario.
        argv: How it is started.
        env: Its environment.
        folder: Its working directory.
        log: What it says goes there.
    """

    name: str
    argv: list[str]
    env: Mapping[str, str]
    folder: Path
    log: Path
    process: OwnedProcess | None = None
    family: set[Relative] = field(default_factory=set)

    @property
    def running(self) -> bool:
        """Whether it runs now, stopped by a signal or not."""
        return self.process is not None and self.process.returncode is None

    def start(self) -> None:
        """Start it, unless it runs."""
        if self.running:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self.process = spawn_owned(
                self.argv,
                env=self.env,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log.fileno(),
                stderr=subprocess.STDOUT,
            )

    def signal(self, number: int) -> None:
        """Send it a signal."""
        if self.process is not None:
            self.look_at_family()
            self.process.send_signal(number)

    async def kill(self) -> None:
        """Kill it, and wait until it is gone."""
        self.signal(signal.SIGKILL)
        if self.process is not None:
            with trio.move_on_after(_GONE_SECONDS):
                await self.process.wait()

    async def stop(self) -> None:
        """End it in good order, or else for good."""
        if self.process is not None:
            self.signal(signal.SIGCONT)
            await self.process.stop(_STOP_SECONDS)

    def look_at_family(self) -> set[Relative]:
        """Its children and theirs as of now; remembered, so that none is overlooked later."""
        if self.running and self.process is not None:
            for pid in descendants(self.process.pid):
                if (began := started(pid)) is not None:
                    self.family.add(Relative(pid, began))
        return self.family

    async def outlived_by(self) -> list[str]:
        """What of its family is there still, a while after its end; that is killed."""
        with trio.move_on_after(_LEAVE_SECONDS):
            while any(each.alive for each in self.family):  # noqa: ASYNC110 - other processes
                await trio.sleep(_LOOK_SECONDS)
        left = [each for each in self.family if each.alive]
        for each in left:
            with suppress(ProcessLookupError):
                os.kill(each.pid, signal.SIGKILL)
        self.family.clear()
        return [f"{each.pid} of {self.name}" for each in sorted(left)]


def prepare_folder(folder: Path, tasks: str) -> None:
    """Put the tasks where the processes of the cast find them."""
    code = folder / "code"
    code.mkdir(parents=True, exist_ok=True)
    source = files("pyoco_server.scenario").joinpath("scene_tasks.py").read_text()
    (code / "scene_tasks.py").write_text(source)
    (code / "scene.py").write_text(tasks)
