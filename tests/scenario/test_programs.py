"""What outlives a process of the cast is found, and no other process is taken for it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
import trio

from pyoco_server.scenario.programs import Program, Relative
from pyoco_server.worker.runner.kin import descendants

PARENT = """
import subprocess, sys, time
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session={apart})
time.sleep(60)
"""


async def killed(folder: Path, *, apart: bool) -> tuple[Program, Relative]:
    """Kill a process that has a child; with ``apart`` one that does not end with it."""
    argv = [sys.executable, "-c", PARENT.format(apart=apart)]
    program = Program("w1", argv, dict(os.environ), folder, folder / "w1.log")
    program.start()
    assert program.process is not None
    with trio.fail_after(60):
        while not descendants(program.process.pid):
            await trio.sleep(0.01)
    (child,) = program.look_at_family()
    assert child.alive
    await program.kill()
    return program, child


@pytest.mark.slow
async def test_a_child_that_outlives_its_owner_is_found_and_killed(tmp_path: Path) -> None:
    program, child = await killed(tmp_path, apart=True)
    assert await program.outlived_by() == [f"{child.pid} of w1"]
    with trio.fail_after(60):
        while child.alive:
            await trio.sleep(0.01)


async def test_a_child_that_ends_with_its_owner_is_not(tmp_path: Path) -> None:
    program, child = await killed(tmp_path, apart=False)
    assert await program.outlived_by() == []
    assert not child.alive


def test_a_process_that_has_the_same_id_now_is_another_one() -> None:
    assert not Relative(os.getpid(), "1").alive
