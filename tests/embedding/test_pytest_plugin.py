"""What the shipped pytest plug-in gives to the tests of a user."""

from __future__ import annotations

from pathlib import Path

import pytest

from e2e.programs import FLOW_YAML
from pyoco_server.pytest_plugin import RunFlow

pytestmark = [pytest.mark.nats]


async def test_a_flow_file_runs_to_its_end(tmp_path: Path, run_flow: RunFlow) -> None:
    flow = tmp_path / "flow.yaml"
    flow.write_text(FLOW_YAML)
    run = await run_flow(flow, {"x": 4})
    assert run.status == "COMPLETED", run.error
    assert run.task_records["to_text"].output == "v=5"


async def test_what_does_not_end_in_time_says_how_far_it_is(
    tmp_path: Path, run_flow: RunFlow
) -> None:
    (tmp_path / "napping.py").write_text("import time\n\ndef nap():\n    time.sleep(60)\n")
    flow = tmp_path / "flow.yaml"
    flow.write_text(
        "version: 1\nflow:\n  graph: nap\ntasks:\n  nap:\n    callable: time:sleep\n"
        "    inputs:\n      secs: 60\n"
    )
    with pytest.raises(TimeoutError, match=r"of flow is (PENDING|RUNNING) after 0.5 s; tasks:"):
        await run_flow(flow, within=0.5)
