"""`pyoco-server dev` as a person works with it."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.programs import Stage, open_stage, wait_for
from terminal.screens import CTRL_C, on_terminal

pytestmark = [pytest.mark.slow, pytest.mark.nats]

TASKS = """\
import ctypes
import sys
import time


def tell():
    for part in ("one ", "line", "\\nand ", "more\\n"):
        sys.stdout.write(part)
        sys.stdout.flush()
        time.sleep(0.15)
    return "told"


def wait():
    print("waiting", flush=True)
    time.sleep(600)


def crash():
    ctypes.string_at(0)
"""


def flow(graph: str) -> str:
    names = ("tell", "wait", "crash")
    tasks = "".join(
        f"  {name}: {{callable: 'dev_tasks:{name}'}}\n" for name in names if name in graph
    )
    return f"flow: {{graph: {graph}}}\ntasks:\n{tasks}"


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with open_stage(tmp_path) as stage:
        (tmp_path / "dev_tasks.py").write_text(TASKS)
        yield stage


def command(stage: Stage) -> tuple[str, ...]:
    ports = ("--port", str(stage.http_port), "--nats-port", str(stage.nats_port))
    return ("pyoco-server", "dev", *ports, "flow.yaml")


def test_lines_are_whole_and_in_order_with_the_states(stage: Stage) -> None:
    (stage.folder / "flow.yaml").write_text(flow("tell"))
    dev = stage.start(*command(stage))
    wait_for(lambda: "tell → told" in dev.text(), what="the result")
    dev.send(signal.SIGINT)
    assert dev.wait() == 130
    lines = [line.strip() for line in dev.text().splitlines()]
    [hint] = [line for line in lines if line.startswith("try ")]
    assert hint.endswith("submit-yaml --workflow-file flow.yaml --flow-name main --tag default")
    places = [
        next(place for place, line in enumerate(lines) if line.endswith(end))
        for end in ("RUNNING", "tell RUNNING", "tell │ one line", "tell │ and more")
    ]
    [ended] = [place for place, line in enumerate(lines) if "tell SUCCEEDED" in line]
    [completed] = [place for place, line in enumerate(lines) if line.endswith(" COMPLETED")]
    assert [*places, ended, completed] == sorted([*places, ended, completed]), dev.text()


def test_a_flow_that_is_not_there_is_told_at_once(stage: Stage) -> None:
    dev = stage.start(*command(stage)[:-1], "nope.yaml")
    assert dev.wait() == 1
    assert dev.text().startswith("ERR-PYOCO-0018")
    assert "nope.yaml is no file" in dev.text()


def test_params_that_no_run_has_room_for_are_told_and_dev_goes_on(stage: Stage) -> None:
    (stage.folder / "flow.yaml").write_text(flow("tell"))
    (stage.folder / "big.json").write_text(json.dumps({"x": "y" * 1_500_000}))
    dev = stage.start(*command(stage), "--params-file", "big.json")
    wait_for(lambda: "flow.yaml: " in dev.text(), what="what is wrong")

    def told_again() -> bool:
        # Again and again: what is saved before dev has begun to watch it is not seen.
        (stage.folder / "flow.yaml").write_text(flow("tell"))
        return dev.text().count("flow.yaml: ") > 1

    wait_for(told_again, what="the same, behind a save")
    dev.send(signal.SIGINT)
    assert dev.wait() == 130
    assert "Traceback" not in dev.text()


def test_a_crash_is_told_once(stage: Stage) -> None:
    (stage.folder / "flow.yaml").write_text(flow("crash"))
    dev = stage.start(*command(stage))
    wait_for(lambda: "killed by SIGSEGV\n" in dev.text(), what="the result")
    dev.send(signal.SIGINT)
    assert dev.wait() == 130
    assert dev.text().count("in string_at") == 1


def test_ctrl_c_stops_at_once_and_says_what_is_given_back(stage: Stage) -> None:
    (stage.folder / "flow.yaml").write_text(flow("wait"))
    dev = stage.start(*command(stage))
    wait_for(lambda: "wait │ waiting" in dev.text(), what="the running task")
    dev.send(signal.SIGINT)
    assert dev.wait() == 130, "long before the task of ten minutes ends"
    assert "given back: run " in dev.text()


def test_a_save_during_a_run_is_told_and_r_restarts(stage: Stage) -> None:
    (stage.folder / "flow.yaml").write_text(flow("wait"))
    with on_terminal(*command(stage), folder=stage.folder, env=stage.env, columns=120) as terminal:
        before = terminal.attributes()
        terminal.see(lambda: "wait │ waiting" in terminal.text, what="the running task")
        terminal.press(b"r")  # without a change it means nothing
        fresh = stage.folder.parent / "fresh.yaml"
        fresh.write_text(flow("tell"))
        fresh.replace(stage.folder / "flow.yaml")  # half a file would be a change of its own
        terminal.see(
            lambda: (
                "changed; running again when this ends, press r to restart now" in terminal.text
            ),
            what="that it was seen",
        )
        terminal.press(b"r")
        terminal.see(lambda: "tell → told" in terminal.text, what="the result of the next run")
        terminal.press(CTRL_C)
        assert terminal.end() == 130
        assert terminal.attributes() == before
        assert not terminal.screen.cursor.hidden
