"""`pyoco-worker` as a person starts it."""

from __future__ import annotations

import pytest

from commands.calling import client
from e2e.programs import Stage, wait_for
from terminal.screens import CTRL_C, on_terminal

pytestmark = [pytest.mark.slow, pytest.mark.nats]


def test_a_worker_imports_from_its_folder_and_logs_for_people(stage: Stage) -> None:
    folder = stage.folder / "project"
    folder.mkdir()
    (folder / "only_here.py").write_text("def one():\n    return 'from the folder'\n")
    flow = folder / "flow.yaml"
    flow.write_text("flow: {graph: one}\ntasks:\n  one: {callable: 'only_here:one'}\n")
    command = ("pyoco-worker", "--nats-url", stage.nats_url, "--tags", "here", "--worker-id", "w3")
    env = {name: value for name, value in stage.env.items() if name != "PYTHONPATH"}
    with on_terminal(*command, folder=folder, env=env, columns=200) as terminal:
        terminal.see(lambda: bool(terminal.raw), what="its first line")
        said = client(stage, "submit-yaml", "--workflow-file", str(flow), "--tag", "here", "--wait")
        assert said.code == 0, said
        assert said.last["task_records"]["one"]["output"] == "from the folder"
        terminal.see(lambda: "run ended" in terminal.text, what="the end of the run")
        terminal.press(CTRL_C)
        assert terminal.end() == 130
        assert "stopping: what is executed may end first" in terminal.text
        assert "orders of the operator" not in terminal.text
        assert "heartbeat not written" not in terminal.text
        assert not any(line.startswith("{") for line in terminal.text.splitlines())
    wait_for(lambda: "w3" not in client(stage, "workers").out, what="its end")


def test_a_worker_in_a_pipe_logs_json(stage: Stage) -> None:
    worker = stage.start(
        *f"pyoco-worker --nats-url {stage.nats_url} --tags none --worker-id w4 --run-once".split()
    )
    assert worker.wait() == 0
    assert all(line.startswith("{") for line in worker.text().splitlines())
