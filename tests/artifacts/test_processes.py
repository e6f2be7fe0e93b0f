"""Workers that are killed while a run has saved some of its files."""

from __future__ import annotations

from pathlib import Path

import pytest

from e2e.programs import KILL, open_stage, wait_for
from e2e.wheel_programs import client

pytestmark = pytest.mark.slow

TASKS = '''\
import os
import time


def save(ctx):
    """The first attempt never gets beyond the half of it."""
    ctx.save_artifact("first.txt", f"of attempt {os.environ['PYOCO_RUN_ATTEMPT']}")
    with open("artifacts/large.bin", "wb") as file:
        file.write(bytes(1_000_000))
        file.flush()
        if os.environ["PYOCO_RUN_ATTEMPT"] == "1":
            time.sleep(600)
        file.write(bytes(1_000_000))
'''
FLOW = "flow:\n  graph: save\ntasks:\n  save: {callable: 'half:save'}\n"


def test_a_killed_worker_leaves_no_folder_and_nothing_of_its_attempt(tmp_path: Path) -> None:
    (tmp_path / "half.py").write_text(TASKS)
    work = tmp_path / ".pyoco" / "work"
    with open_stage(tmp_path) as stage:
        stage.env["PYOCO_CONSUMER_ACK_WAIT_SEC"] = "2"
        stage.nats()
        stage.gateway()
        first = stage.worker("--slots", "1", worker_id="first")
        run_id = stage.submit(FLOW)
        (large,) = wait_for(lambda: list(work.glob("*/*/artifacts/large.bin")), what="the file")
        wait_for(lambda: large.stat().st_size == 1_000_000, what="its half")
        first.send(KILL)
        first.wait()
        assert large.exists()
        assert client(stage, "artifacts", run_id)["artifacts"] == []
        stage.worker("--slots", "1", worker_id="second")
        ended = stage.ended(run_id)
        assert (ended["status"], ended["attempt"]) == ("COMPLETED", 2)
        assert [(kept["name"], kept["size_bytes"]) for kept in ended["artifacts"]] == [
            ("first.txt", len("of attempt 2")),
            ("large.bin", 2_000_000),
        ]
        out = tmp_path / "out"
        client(stage, "artifacts", run_id, "--all", "--out", str(out))
        assert (out / "first.txt").read_text() == "of attempt 2"
        assert (out / "large.bin").read_bytes() == bytes(2_000_000)
        wait_for(lambda: not large.parents[2].exists(), what="no folder of the killed worker")
        wait_for(lambda: not list(work.glob("*/*")), what="no folder of a run")
