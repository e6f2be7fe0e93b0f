"""Worker, child and guardian are killed while tasks start processes: nothing is left of them."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from isolation.families import alive_with, is_alive
from pyoco_server.worker.runner.kin import children, end_marked, marks_of

LONG = os.environ.get("PYOCO_DRILL_LONG") == "1"
SEED = int(os.environ.get("PYOCO_DRILL_SEED", "1"))
ROUNDS = 15 if LONG else 1
TESTS = Path(__file__).parents[1]
# Who is killed, in this order, at once.
VICTIMS = [
    "worker",
    "child",
    "guardian",
    "worker guardian",
    "worker child",
    "child guardian",
    "guardian child worker",
]


@pytest.mark.parametrize("victims", VICTIMS)
def test_nothing_is_left_whoever_is_killed_whenever(tmp_path: Path, victims: str) -> None:
    order = random.Random(f"{SEED} {victims}")
    for number in range(ROUNDS):
        mark = str(tmp_path / f"round {number}")
        Path(mark).mkdir()
        play(tmp_path, mark, victims.split(), order.uniform(0, 0.4), order.randrange(1000))


def play(folder: Path, mark: str, victims: list[str], after: float, seed: int) -> None:
    argv = [
        sys.executable,
        "-m",
        "isolation.kill_drill_worker",
        str(folder / "slot"),
        mark,
        str(seed),
    ]
    with subprocess.Popen(argv, cwd=TESTS, stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
        guardian, child = family(worker.pid)
        time.sleep(after)  # the moment is what the drill is about
        # The child may be another one by now.
        child = next(iter(children(guardian)), child)
        pids = {"worker": worker.pid, "guardian": guardian, "child": child}
        until = time.monotonic() + 20
        for victim in victims:
            if is_alive(pids[victim]):
                os.kill(pids[victim], signal.SIGKILL)
        if victims == ["child", "guardian"]:
            # Nobody but the worker can end what they left, and it does so before it goes on.
            while guardian in children(worker.pid) or not children(worker.pid):
                assert time.monotonic() < until, (victims, "the worker does not go on")
                time.sleep(0.01)
        if "worker" not in victims:
            time.sleep(0.1)
            worker.kill()  # which has gone on meanwhile, with another child or guardian
        until = time.monotonic() + 20
        while (left := alive_with(mark)) or is_alive(guardian):
            assert time.monotonic() < until, (victims, left)
            if len(victims) == 3:
                end_marked(marks_of(mark))  # as the next worker does
            time.sleep(0.02)


def family(worker: int) -> tuple[int, int]:
    """The guardian and the child, once they are there."""
    until = time.monotonic() + 20
    while time.monotonic() < until:
        for guardian in children(worker):
            for child in children(guardian):
                return guardian, child
        time.sleep(0.01)
    pytest.fail("the worker has no child")
