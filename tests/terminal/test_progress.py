"""How far a task is, as `submit --follow`, `top` and `tasks` show it."""

from __future__ import annotations

import pytest

from commands.calling import cancel, client
from e2e.programs import Stage
from terminal.screens import CTRL_C, on_terminal

pytestmark = [pytest.mark.slow, pytest.mark.nats]
FOLLOW = (
    "pyoco-client",
    "submit-yaml",
    "--tag",
    "hello",
    "--workflow-file",
    "report.yaml",
    "--flow-name",
    "reports",
    "--follow",
)
TOP = ("pyoco-client", "top", "--interval-sec", "0.3")
WORDS = "3/10 (30%)  rows"


def test_a_bar_stands_beside_the_task_that_reports(stage: Stage) -> None:
    with on_terminal(*FOLLOW, folder=stage.folder, env=stage.env) as terminal:

        def shown() -> bool:
            return any(
                line.startswith("  second") and "━" in line and line.endswith(WORDS)
                for line in terminal.lines
            )

        terminal.see(shown, what="the bar")
        with on_terminal(*TOP, folder=stage.folder, env=stage.env) as top:
            top.see(
                lambda: any(
                    line.strip().startswith("second") and "3/10" in line for line in top.lines
                ),
                what="the bar in top",
            )
            top.press(CTRL_C)
            top.end()
        terminal.press(CTRL_C)
        terminal.end()
    [running] = client(stage, "list", "--flow", "reports", "--status", "RUNNING").last
    record = client(stage, "tasks", running["run_id"]).last["task_records"]["second"]
    assert record["state"] == "RUNNING"
    assert {**record["progress"], "at": 0} == {"done": 3, "total": 10, "message": "rows", "at": 0}
    told = client(stage, "events", running["run_id"], "--type", "progress").last
    assert (told["type"], told["task"], told["done"], told["total"]) == (
        "progress",
        "second",
        3,
        10,
    )
    cancel(stage, running["run_id"])
