from __future__ import annotations

import json
from pathlib import Path

import pytest

from pyoco_server.model.worker import (
    SlotRecord,
    UnreadableWorker,
    WheelSync,
    WorkerOrder,
    WorkerRecord,
    WorkerState,
    decode_worker,
    effective_state,
    encode_worker,
    keep_orders,
    ordered,
    seen,
)

GOLDEN = Path(__file__).parent / "golden"


@pytest.mark.parametrize("name", ["worker_idle", "worker_stopped"])
def test_a_record_of_0_5_1_is_read_and_written_with_nothing_lost(name: str) -> None:
    raw = (GOLDEN / f"{name}.json").read_bytes()
    old = json.loads(raw)
    new = json.loads(encode_worker(decode_worker(raw)))
    assert {field: new[field] for field in old} == old
    assert new["slots"] == []


def test_slots_go_round() -> None:
    slot = SlotRecord(index=1, run_id="r", attempt=2, pid=9, busy_since=3.5)
    record = WorkerRecord(worker_id="w", instance_id="i", slots=[SlotRecord(index=0), slot])
    assert decode_worker(encode_worker(record)) == record


def test_a_record_that_only_says_that_the_worker_lives_is_taken() -> None:
    read = decode_worker(b'{"heartbeat_at": 7.5, "tags": "x", "wheel_sync": 1}', worker_id="w")
    assert (read.worker_id, read.instance_id, read.state) == ("w", "w", WorkerState.IDLE)
    assert (read.last_seen_at, read.last_heartbeat_at, read.heartbeat_at) == (7.5, 7.5, 7.5)
    assert (read.tags, read.wheel_sync) == ([], WheelSync())


def test_nulls_stand_for_defaults() -> None:
    read = decode_worker(
        b'{"worker_id": "w", "instance_id": null, "state": "ODD", "hidden": null, "tags": null,'
        b'"wheel_sync": {"enabled": true, "selected_wheels": null}, "slots": null}'
    )
    assert read == WorkerRecord(worker_id="w", instance_id="w", wheel_sync=WheelSync(enabled=True))


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"?", "must be JSON"),
        (b"[]", "must be a JSON object"),
        (b"{}", "worker_id"),
        (b'{"worker_id": "w", "last_seen_at": "x"}', r"'w' cannot be understood.*last_seen_at"),
    ],
)
def test_what_is_no_record_is_refused_with_the_reason(raw: bytes, why: str) -> None:
    with pytest.raises(UnreadableWorker, match=why):
        decode_worker(raw)


@pytest.mark.parametrize(
    ("state", "age", "timeout", "shown"),
    [
        ("IDLE", 20.0, 20.0, "IDLE"),
        ("IDLE", 20.1, 20.0, "DISCONNECTED"),
        ("RUNNING", 20.1, 20.0, "DISCONNECTED"),
        ("RUNNING", 99.0, 0.0, "RUNNING"),
        ("STOPPED_GRACEFUL", 9999.0, 20.0, "STOPPED_GRACEFUL"),
        ("IDLE", -5.0, 20.0, "IDLE"),
    ],
)
def test_silence_means_disconnected_unless_the_worker_stopped(
    state: str, age: float, timeout: float, shown: str
) -> None:
    record = WorkerRecord(
        worker_id="w", instance_id="i", state=WorkerState(state), last_seen_at=1000.0
    )
    assert effective_state(record, 1000.0 + age, timeout) == shown


def test_a_worker_keeps_what_the_operator_set() -> None:
    own = WorkerRecord(worker_id="w", instance_id="new")
    assert keep_orders(own, None) == own
    stored = WorkerRecord(worker_id="w", instance_id="old", hidden=True)
    assert keep_orders(own, stored) == WorkerRecord(worker_id="w", instance_id="new", hidden=True)


def test_a_heartbeat_is_one_time_in_every_field() -> None:
    record = seen(WorkerRecord(worker_id="w", instance_id="i"), 5.0)
    times = (record.last_seen_at, record.last_heartbeat_at, record.heartbeat_at, record.updated_at)
    assert times == (5.0, 5.0, 5.0, 5.0)


def test_lists_of_wheels_and_the_last_error_are_bounded_when_written() -> None:
    sync = WheelSync(selected_count=70, selected_wheels=["w"] * 70, last_error="e" * 9000)
    written = json.loads(
        encode_worker(WorkerRecord(worker_id="w", instance_id="i", wheel_sync=sync))
    )["wheel_sync"]
    assert len(written["selected_wheels"]) == 50
    assert written["selected_count"] == 70
    assert len(written["last_error"]) == 2000


def test_an_order_stays_until_it_is_taken_back_and_a_drain_ends_with_its_process() -> None:
    record = WorkerRecord(worker_id="w", instance_id="one")
    told = ordered(ordered(record, WorkerOrder.PAUSE), WorkerOrder.DRAIN)
    assert (told.paused, told.draining) == (True, True)
    assert keep_orders(record, told) == told
    restarted = keep_orders(WorkerRecord(worker_id="w", instance_id="two"), told)
    assert (restarted.paused, restarted.draining) == (True, False)
    assert ordered(told, WorkerOrder.RESUME) == record
