"""What the shipped pytest plug-in gives to the tests of a user."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from e2e.programs import FLOW_YAML
from pyoco_server import WorkerOptions
from pyoco_server.pytest_plugin import RunFlow

pytestmark = pytest.mark.nats


@pytest.fixture
def pyoco_worker(pyoco_worker: WorkerOptions, tmp_path: Path) -> WorkerOptions:
    """Takes tasks from the folder of the test as well."""
    return replace(pyoco_worker, import_paths=(*pyoco_worker.import_paths, str(tmp_path)))


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
    flow.write_text("version: 1\nflow:\n  graph: nap\ntasks:\n  nap:\n    callable: napping:nap\n")
    with pytest.raises(TimeoutError, match=r"of flow is (PENDING|RUNNING) after 0.5 s; tasks:"):
        await run_flow(flow, within=0.5)
