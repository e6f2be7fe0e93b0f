"""One small installation for all that is looked at on terminals."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from commands.calling import client
from e2e.programs import Stage, open_stage, wait_for

TASKS = """\
import sys
import time
from pathlib import Path

import pyoco_server

GATE = Path(__file__).with_name("gate")


def gated(lines):
    while not GATE.exists():
        time.sleep(0.02)
    count(lines)


def report(lines):
    pyoco_server.report(done=3, total=10, message="rows")
    time.sleep(600)


def count(lines):
    for number in range(lines):
        print(f"line {number}", flush=True)
        time.sleep(0.05)


def fail(lines):
    print("about to fail", file=sys.stderr)
    raise ValueError("bad luck")


def lookup(lines):
    return {}["user_id"]


def halves(lines):
    print("out without an end", end="", flush=True)
    print("a whole\\tline", file=sys.stderr, flush=True)
    time.sleep(600)


def refused(ctx):
    ctx.save_artifact("../x", "hi")


def wait(lines):
    print("waiting", flush=True)
    time.sleep(600)
"""


def flow(second: str, lines: int = 4) -> str:
    return (
        f"flow:\n  graph: first >> second\n  defaults:\n    lines: {lines}\ntasks:\n"
        "  first:\n    callable: terminal_tasks:count\n"
        f"  second:\n    callable: terminal_tasks:{second}\n"
    )


@pytest.fixture(scope="package")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with open_stage(tmp_path_factory.mktemp("terminal")) as stage:
        stage.env["PYOCO_SERVER_URL"] = stage.url
        stage.env["PYOCO_CANCEL_GRACE_PERIOD_SEC"] = "1"
        (stage.folder / "terminal_tasks.py").write_text(TASKS)
        for name in ("count", "fail", "gated", "lookup", "wait", "report", "halves", "refused"):
            (stage.folder / f"{name}.yaml").write_text(flow(name))
        stage.nats()
        stage.gateway()
        stage.worker("--slots", "2")
        wait_for(lambda: client(stage, "workers").last, what="the worker")
        yield stage
