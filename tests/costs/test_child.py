"""What a run of two tasks that do nothing costs its slot's child: counted there, and not timed."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest
import trio

from pyoco_server.model.run import RunStatus
from pyoco_server.worker.runner.options import RunnerOptions
from pyoco_server.worker.runner.protocol import FlowFinished, TaskChanged, frame
from runner.children import WITHIN_SECONDS, Flows, a_child

MOST_CALLS: Final = 715
"""Of functions, Python's own included."""

MOST_BYTES: Final = 1_930
"""That it sends, by which its worker and the pipe have less to do."""

RUNS: Final = 50
# It counts from its import on, so that what counts is there in a fresh child; each thread apart.
COUNTED: Final = """\
import sys
import threading
from collections import Counter
from threading import get_ident

from pyoco.core.models import Flow, Task

calls = Counter()


def count(frame, event, arg):
    if event == "call" or event == "c_call":
        calls[get_ident()] += 1


threading.setprofile(count)
sys.setprofile(count)


def nothing():
    return None


def so_far():
    return calls.total()


def resolve(name):
    if name == "so_far":
        return Flow(name=name) >> Task(func=so_far, name="so_far")
    return Flow(name=name) >> Task(func=nothing, name="first") >> Task(func=nothing, name="second")
"""


async def test_a_run_costs_its_child_no_more_than_it_may(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "counted.py").write_text(COUNTED)
    options = RunnerOptions(extra_sys_path=(str(tmp_path),), flow_resolver="counted:resolve")
    async with a_child(options) as runner:
        flows = Flows(runner)

        async def run(flow: str) -> tuple[int, object]:
            """Execute a flow; return how many bytes it sent, and what was returned last."""
            await flows.send_yaml(None, flow_name=flow, workdir=str(tmp_path / "work"))
            size, output = 0, None
            with trio.fail_after(WITHIN_SECONDS):
                while not isinstance(event := await runner.next_event(), FlowFinished):
                    size += len(frame(event))  # type: ignore[arg-type]
                    if isinstance(event, TaskChanged):
                        output = event.record.output
            assert (event.status, event.worn) == (RunStatus.COMPLETED, None)
            return size + len(frame(event)), output

        async def so_far() -> int:
            _, calls = await run("so_far")
            assert isinstance(calls, int)
            return calls

        await run("nothing")
        first = await so_far()
        before = await so_far()
        size = max([(await run("nothing"))[0] for _ in range(RUNS)])
        calls = (await so_far() - before - (before - first)) / RUNS
    print(f"{calls:.1f} calls, {size} bytes")
    assert calls <= MOST_CALLS
    assert size <= MOST_BYTES
