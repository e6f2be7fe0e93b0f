"""A task is tried no more often than its policy says, wherever in its tries its worker is killed."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Final

from backend.stage import ended, new_run, running
from drills.try_kills import ACK_WAIT_SECONDS, DEATHS, calls_of, count_calls, tag_of
from pyoco_server.backend import Backend
from pyoco_server.model.run import RunStatus
from pyoco_server.worker.runner.engine.tries import LOST_TRY

TESTS: Final = Path(__file__).parents[1]
LIMIT: Final = 3
BROKE: Final = "it broke"
# What each try came to that the last attempt tells of, and how many were made in all.
TOLD: Final = {
    "before it is stored": ([BROKE, BROKE, BROKE], 3),
    "stored and not begun": ([LOST_TRY, LOST_TRY, BROKE], 1),
    "begun": ([LOST_TRY, BROKE, LOST_TRY], 3),
    "failed and not told": ([BROKE, LOST_TRY, LOST_TRY], 3),
    "waiting for the next": ([BROKE, BROKE, BROKE], 3),
}


async def test_a_worker_killed_at_each_boundary_of_a_try(tmp_path: Path) -> None:
    assert TOLD.keys() == DEATHS.keys()
    backends = running(tmp_path, worker=False, consumer_ack_wait_sec=ACK_WAIT_SECONDS)
    async with backends as backend:
        url = backend.settings_with_node().nats_url
        argv = [sys.executable, "-m", "drills.try_kills", str(tmp_path), url]
        # They end with their standard input, so with the block.
        with subprocess.Popen(argv, cwd=TESTS, stdin=subprocess.PIPE):  # noqa: ASYNC220
            await see(backend, tmp_path)


async def see(backend: Backend, folder: Path) -> None:
    run_ids = {}
    for boundary in DEATHS:
        run = replace(new_run("fails", path=str(calls_of(folder, boundary))), tag=tag_of(boundary))
        run_ids[boundary] = (await backend.submit(run)).run_id
    for boundary, run_id in run_ids.items():
        state = await ended(backend, run_id, within=60)
        record = state.task_records["fails"]
        tries = record.tries or []
        calls = count_calls(calls_of(folder, boundary))
        print(boundary, state.attempt, calls, state.error)
        assert calls <= LIMIT, boundary
        assert ([each.error for each in tries], calls) == TOLD[boundary], boundary
        assert (state.status, state.attempt) == (RunStatus.FAILED, 3)
        assert [each.number for each in tries] == [1, 2, 3]
        assert state.reason == "execution_error"
        assert [each.reason for each in state.attempts] == ["lost", "lost"]
        assert not state.tries_begun
