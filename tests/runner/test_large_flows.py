"""A thousand tasks in a row, a thousand beside each other, two hundred in a loop: complete, and bounded."""

from __future__ import annotations

import time

import pytest
from pyoco.core.models import TaskState as EngineTaskState

from pyoco_server.model.flow.file import parse_flow_yaml
from pyoco_server.model.json_text import encode_json
from pyoco_server.model.run import (
    RunSnapshot,
    RunStatus,
    TaskState,
    decode_snapshot,
    encode_snapshot,
)
from pyoco_server.worker.runner.engine.task_record import IterationBook, LiveRecord
from pyoco_server.worker.runner.protocol import Limits
from pyoco_server.worker.runner.records import RecordBook
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


@pytest.mark.parametrize(("said", "large"), [(None, "yyy"), ("é" * 20_000, "<15")])
def test_what_is_told_of_errors_and_loops_costs_no_results(said: str | None, large: str) -> None:
    book = RecordBook(Limits(snapshot_bytes=SNAPSHOT_BYTES), None, {})
    records = {}
    for number in range(48):
        loop, record = IterationBook(), LiveRecord()
        for index in range(50):
            record = LiveRecord(state=EngineTaskState.FAILED, started_at=time.time())
            record.error = record.traceback = said
            record.end(time.time())
            record.note_try(1, time.time(), said)
            loop.note(record, f"foreach:row[{index}].repeat[0]")
        record.output = number if number < 47 else "y" * 150_000
        records[f"t{number}"] = book.ended(f"t{number}", record, TaskState.FAILED)
    run = RunSnapshot(
        run_id="r",
        flow_name="main",
        status=RunStatus.FAILED,
        error=said,
        task_records=records,
    )
    kept = decode_snapshot(encode_snapshot(run, max_bytes=SNAPSHOT_BYTES)).task_records
    *small, last = (each.output for each in kept.values())
    assert (small, last[:3]) == ([*range(47)], large)
    assert [each.number for each in kept["t0"].tries or ()] == [1]
    paths = [each.path for each in kept["t0"].iterations or ()]
    assert paths == [f"foreach:row[{index}].repeat[0]" for index in (47, 48, 49)]
    assert kept["t0"].iteration_counts == {"FAILED": 50}
