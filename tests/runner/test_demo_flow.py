"""The flow of the demonstration runs as it is told."""

from __future__ import annotations

from importlib.resources import files

from pyoco_server.model.flow.file import parse_flow_yaml
from pyoco_server.model.run import RunStatus, TaskState
from runner.children import Flows


async def test_the_demonstration(flows: Flows) -> None:
    text = files("pyoco_server.demo_flow").joinpath("flow.yaml").read_text(encoding="utf-8")
    defaults = parse_flow_yaml(text.encode(), max_bytes=262_144).defaults
    told = await flows.run_yaml(text, params=defaults)
    finished = told.finished
    assert finished.status is RunStatus.COMPLETED, finished.error
    assert finished.task_records["bulletin"].output == (
        "2024-04-01: warmest in Naha (24.6 °C), coldest in Sapporo (8.3 °C), 14.3 °C on average."
    )
    assert told.states("sapporo") == [TaskState.RUNNING, TaskState.RUNNING, TaskState.SUCCEEDED]
    assert "the line broke" in told.text("sapporo")
    assert told.text("osaka").count("\n") == 5
