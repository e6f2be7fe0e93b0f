"""What a list shows of a run."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import msgspec
import pytest

from http_api.seeding import snapshot
from pyoco_server.gateway.read_model.rows import row_of
from pyoco_server.jetstream.keyvalue import Entry


def test_a_list_shows_the_properties_of_a_run_without_its_records() -> None:
    stored = snapshot("r", status="RUNNING", error="e", worker_id="w")
    raw = msgspec.json.encode(stored)
    item = msgspec.to_builtins(row_of(Entry("r", raw, 7, 5.0)).item(0.0))
    of_051 = "run_id flow_name tag tags tenant_id api_key_id status updated_at heartbeat_at worker_id error"
    assert set(of_051.split()) <= set(item)
    assert "task_records" not in item
    assert {name: item[name] for name in item if name in stored} == {
        name: stored[name] for name in item if name in stored
    }
    assert item["status"] == "RUNNING"


@pytest.mark.parametrize("number", [10**30, -(10**30)])
def test_numbers_of_any_size_fit_into_the_columns(number: int) -> None:
    stored = snapshot("r", attempt=number, usage={"peak_memory_bytes": number})
    row = row_of(Entry("r", msgspec.json.encode(stored), 7, 5.0))
    numbers = [row.attempt, row.peak_memory_bytes]
    with closing(sqlite3.connect(":memory:")) as db:
        assert db.execute("SELECT ?, ?", numbers).fetchone() == tuple(numbers)
    assert all(given is not None and given >= 0 for given in numbers)
