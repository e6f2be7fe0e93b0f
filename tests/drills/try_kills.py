"""Workers that die at a boundary of a try of a task: ``… FOLDER NATS_URL``; they end with the standard input.

A boundary is passed once for each try. `DEATHS` says which passing of it each worker dies at, one worker
after the other; the one after the last of them lives.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import trio

from pyoco_server.backend import open_backend
from pyoco_server.model.run import TryRecord
from pyoco_server.settings import Settings
from pyoco_server.worker.attempt import Attempt
from pyoco_server.worker.tree import WorkerOptions

DEATHS: dict[str, list[int]] = {
    "before it is stored": [1, 2],
    "stored and not begun": [1, 1],
    "begun": [1, 2],
    "failed and not told": [2, 1],
    "waiting for the next": [1, 1],
}
ACK_WAIT_SECONDS = 1.5
FLOWS = """\
import time

from pyoco.core.models import Flow
from pyoco.dsl.syntax import task

from pyoco_server import policy


@task
@policy(retries=2, backoff={"delay_sec": 0.5})
def fails(path):
    with open(path, "a") as file:
        file.write("a try\\n")
    time.sleep(0.3)
    raise ValueError("it broke")


def resolve(name):
    return Flow(name=name) >> fails
"""


def tag_of(boundary: str) -> str:
    return boundary.replace(" ", "_")


def calls_of(folder: Path, boundary: str) -> Path:
    """The file in which each try of the task leaves a line."""
    return folder / f"{tag_of(boundary)}.calls"


def count_calls(path: Path) -> int:
    return len(path.read_text().splitlines()) if path.exists() else 0


def die_at(boundary: str, passing: int, calls: Path) -> None:
    """Have this process killed there."""
    passed = 0

    def passes(*_: Any) -> None:
        nonlocal passed
        passed += 1
        if passed == passing:
            os.kill(os.getpid(), signal.SIGKILL)

    write, begin, note = Attempt.write_progress, Attempt.begin_tries, Attempt.note_tries

    async def write_progress(self: Attempt) -> bool:
        if boundary == "before it is stored" and self.tries_waiting:
            passes()
        holds = await write(self)
        failed = [tries for tries in self.tries_begun.values() if tries[-1].ended_at is not None]
        if boundary == "waiting for the next" and failed and not self.tries_waiting:
            passes()
        return holds

    def begin_tries(self: Attempt, keys: Sequence[str]) -> None:
        if boundary == "stored and not begun" and keys:
            passes()
        begin(self, keys)

    def note_tries(self: Attempt, key: str, tries: Sequence[TryRecord], *, begins: bool) -> None:
        if boundary == "failed and not told" and tries and not begins:
            passes()
        note(self, key, tries, begins=begins)

    changed: dict[str, Callable[..., Any]] = {
        "write_progress": write_progress,
        "begin_tries": begin_tries,
        "note_tries": note_tries,
    }
    for name, function in changed.items():
        setattr(Attempt, name, function)
    if boundary == "begun":
        threading.Thread(target=watch, args=(calls, passing), daemon=True).start()


def watch(calls: Path, more: int) -> None:
    before = count_calls(calls)
    while count_calls(calls) < before + more:
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGKILL)


async def work(folder: Path, url: str, boundary: str, number: int) -> None:
    name = f"{tag_of(boundary)}-{number}"
    settings = Settings(
        nats_url=url, state_dir=str(folder / name), consumer_ack_wait_sec=ACK_WAIT_SECONDS
    )
    options = WorkerOptions(
        tags=(tag_of(boundary),),
        worker_id=name,
        slots=1,
        flow_resolver=f"{folder / 'flows.py'}:resolve",
        output=lambda _output, _slot: None,
    )
    async with open_backend(settings, gateway=False, worker=options):
        await trio.sleep_forever()


def start(folder: Path, url: str, boundary: str, number: int) -> int:
    """Make a worker, the one of that number; return its process id."""
    if pid := os.fork():
        return pid
    try:
        deaths = DEATHS[boundary]
        if number < len(deaths):
            die_at(boundary, deaths[number], calls_of(folder, boundary))
        trio.run(work, folder, url, boundary, number)
    finally:
        os._exit(1)


def main(folder: Path, url: str) -> None:
    (folder / "flows.py").write_text(FLOWS)
    workers = {start(folder, url, boundary, 0): (boundary, 0) for boundary in DEATHS}
    while not select.select([sys.stdin], [], [], 0.02)[0]:
        pid, _ = os.waitpid(-1, os.WNOHANG)
        if pid:
            boundary, number = workers.pop(pid)
            workers[start(folder, url, boundary, number + 1)] = (boundary, number + 1)
    for pid in workers:
        os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
