"""A thousand tasks in a row, a thousand beside each other, two hundred in a loop: complete, and bounded."""

from __future__ import annotations

import time

import pytest

from pyoco_server.model.flow.file import parse_flow_yaml
from pyoco_server.model.json_text import encode_json
from pyoco_server.model.run import RunStatus
from runner.children import Flows

SNAPSHOT_BYTES = 262_144
COUNT = 1_000


def file_of(graph: str, names: list[str]) -> str:
    tasks = "".join(f"  {name}: {{callable: 'sample_tasks:one'}}\n" for name in names)
    return f"flow:\n  graph: |\n    {graph}\ntasks:\n{tasks}"


NAMES = [f"t{number}" for number in range(COUNT)]
FLOWS = {
    "chain": file_of(" >> ".join(NAMES), NAMES),
    "beside": file_of(" & ".join(NAMES), NAMES),
    "loop": file_of("foreach(over=numbers, item=n, collect=list) { t0 }", ["t0"]),
    "parallel loop": file_of("foreach(over=numbers, item=n, parallel=8) { t0 }", ["t0"]),
}


@pytest.mark.parametrize("shape", FLOWS)
async def test_a_large_flow_completes_and_its_records_are_bounded(flows: Flows, shape: str) -> None:
    text = FLOWS[shape]
    parse_flow_yaml(text.encode(), max_bytes=SNAPSHOT_BYTES)
    await flows.run("one", one="one")
    begun = time.perf_counter()
    told = await flows.run_yaml(text, params={"numbers": list(range(200))})
    took = time.perf_counter() - begun
    finished = told.finished
    assert finished.status is RunStatus.COMPLETED, finished.error
    states, records = len(encode_json(finished.tasks)), len(encode_json(finished.task_records))
    print(f"{shape}: {took * 1000:.0f} ms, states {states} B, records {records} B")
    assert states < SNAPSHOT_BYTES / 4
    if "loop" in shape:
        record = finished.task_records["t0"]
        assert record.iteration_counts == {"SUCCEEDED": 200}
        assert records < SNAPSHOT_BYTES / 16
