from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyoco_server.model.errors import ErrorId
from pyoco_server.model.run import (
    TERMINAL_STATUSES,
    RunSnapshot,
    RunStatus,
    SnapshotTooLarge,
    TaskRecord,
    TaskState,
    UnreadableSnapshot,
    decode_snapshot,
    encode_snapshot,
    shrink_error,
    without_records,
)

GOLDEN = Path(__file__).parent / "golden"


def words(text: str) -> list[str]:
    return text.split()


def snapshot(**fields: Any) -> RunSnapshot:
    return RunSnapshot(**{"run_id": "r1", "flow_name": "f", "status": RunStatus.RUNNING} | fields)


def test_terminal_states() -> None:
    assert {"COMPLETED", "FAILED", "CANCELLED"} == TERMINAL_STATUSES
    assert [status for status in RunStatus if status.terminal] == [
        "COMPLETED",
        "FAILED",
        "CANCELLED",
    ]
    assert [state for state in TaskState if not state.terminal] == ["PENDING", "RUNNING"]


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("snapshot_*.json")), ids=lambda p: p.stem)
def test_every_snapshot_of_0_5_1_is_read_and_written_with_nothing_lost(path: Path) -> None:
    raw = path.read_bytes()
    old = json.loads(raw, parse_constant=lambda text: text.replace("Infinity", "inf"))
    read = decode_snapshot(raw)
    new = json.loads(encode_snapshot(read, max_bytes=0))
    assert {name: new[name] for name in old} == old
    assert read.attempt == 0
    assert read.worker_instance_id is None


def test_the_json_has_every_field_of_the_contract() -> None:
    contract = words(
        "run_id flow_name tag tags tenant_id api_key_id workflow_yaml_sha256 workflow_yaml_bytes "
        "status params tasks task_records task_records_truncated start_time end_time heartbeat_at "
        "updated_at error worker_id cancel_requested_at cancel_requested_by"
    )
    written = json.loads(encode_snapshot(snapshot(task_records={"a": TaskRecord()}), max_bytes=0))
    assert set(contract) < set(written)
    assert list(written["task_records"]["a"]) == words(
        "state started_at ended_at duration_ms error traceback inputs output artifacts"
    )


def test_unknown_fields_and_missing_or_null_containers_do_no_harm() -> None:
    raw = b"""{"run_id": "r", "flow_name": "f", "status": "PENDING", "tags": null, "params": null,
    "tasks": null, "task_records": {"a": {"state": "FAILED", "inputs": null, "artifacts": null}},
    "task_records_truncated": null, "attempt": null, "of_the_future": [1], "updated_at": 3}"""
    read = decode_snapshot(raw)
    assert (read.tags, read.params, read.tasks) == ([], {}, {})
    assert read.task_records["a"] == TaskRecord(state=TaskState.FAILED)
    assert read.task_records_truncated is False
    assert read.updated_at == 3.0


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"", "must be JSON"),
        (b"\xff", "must be JSON"),
        (b"[1]", "must be a JSON object, not list"),
        (b'{"run_id":"r","flow_name":"f","status":"PAUSED"}', "'r' cannot be understood.*PAUSED"),
        (b'{"flow_name":"f","status":"PENDING"}', "run_id"),
        (b'{"run_id":"r","flow_name":"f","status":"PENDING","tasks":[1]}', r"\$\.tasks"),
        (b"[" * 9000, "nested too deeply"),
    ],
)
def test_what_is_no_snapshot_is_refused_with_the_reason(raw: bytes, why: str) -> None:
    with pytest.raises(UnreadableSnapshot, match=why):
        decode_snapshot(raw)


def test_a_snapshot_that_fits_is_left_alone() -> None:
    small = snapshot(task_records={"a": TaskRecord(output=1)})
    size = len(encode_snapshot(small, max_bytes=0))
    assert decode_snapshot(encode_snapshot(small, max_bytes=size)) == small


def test_too_large_a_snapshot_loses_its_records_first_and_never_its_tasks() -> None:
    large = snapshot(
        tasks={"a": TaskState.SUCCEEDED},
        task_records={"a": TaskRecord(output="x" * 5000)},
        error="e" * 500,
    )
    read = decode_snapshot(encode_snapshot(large, max_bytes=2000))
    assert read == without_records(large)
    assert read.task_records == {}
    assert read.task_records_truncated
    assert read.tasks == {"a": "SUCCEEDED"}


def test_a_huge_error_cannot_make_a_snapshot_impossible() -> None:
    large = snapshot(error="begin" + "é" * 300_000 + "end")
    raw = encode_snapshot(large, max_bytes=8000)
    assert len(raw) <= 8000
    error = decode_snapshot(raw).error
    assert error is not None
    assert error.startswith("begin")
    assert error.endswith("end")
    assert "left out" in error


def test_params_that_do_not_fit_are_reported_with_their_size() -> None:
    with pytest.raises(SnapshotTooLarge, match="PYOCO_MAX_RUN_SNAPSHOT_BYTES") as caught:
        encode_snapshot(snapshot(params={"x": "y" * 9000}), max_bytes=8000)
    assert caught.value.error_id is ErrorId.SNAPSHOT_TOO_LARGE
    assert caught.value.size_bytes > caught.value.max_bytes == 8000
    assert caught.value.parts["params"] == 9008


@given(st.text(st.characters()), st.integers(min_value=0, max_value=200))
def test_a_shrunk_error_is_utf_8_within_its_limit(text: str, limit: int) -> None:
    shrunk = shrink_error(text, limit).encode()
    assert len(shrunk) <= limit
    if len(whole := text.encode("utf-8", "backslashreplace")) <= limit:
        assert shrunk == whole
