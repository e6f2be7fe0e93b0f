"""Rows for the read model, out of thin air."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from pyoco_server.gateway.read_model.filters import RunFilter
from pyoco_server.gateway.read_model.rows import RunRow
from pyoco_server.model.run import RunState, RunStatus

NAMES = st.sampled_from(["a", "main", "Main%2", "x_y", "über", "1000"])
TENANTS = st.sampled_from(["", "t1", "t2"])
IDS = st.sampled_from([f"run-{n:02}" for n in range(12)])
# Few times, so that they collide; some are the borders of minutes.
TIMES = st.sampled_from([0.0, 59.9, 60.0, 61.5, 120.0, 1e9, 1e9 + 0.25])
NOW = 100.0
MAYBE_TIMES = st.none() | TIMES
ERRORS = st.none() | st.sampled_from(["ValueError: it broke", "50% of x_y", "Ünlucky", "a"])


@st.composite
def rows(draw: st.DrawFn) -> RunRow:
    status = draw(st.sampled_from(RunStatus))
    return row(
        draw(IDS),
        flow=draw(NAMES),
        status=status,
        attempt=draw(st.sampled_from([0, 1])),
        due_at=draw(st.none() | st.sampled_from([NOW - 1, NOW + 1])),
        expired=int(status is RunStatus.FAILED and draw(st.booleans())),
        late=draw(st.integers(0, 3)),
        tag=draw(st.sampled_from(["", "hello", "gpu"])),
        tenant=draw(TENANTS),
        sha256=draw(st.none() | st.sampled_from(["aa", "bb"])),
        worker_id=draw(st.none() | st.sampled_from(["w1", "w2"])),
        error=draw(ERRORS),
        submitted_at=draw(MAYBE_TIMES),
        start_time=draw(MAYBE_TIMES),
        end_time=draw(MAYBE_TIMES),
        updated_at=draw(TIMES),
        day=draw(st.integers(1, 3)),
        expires_at=draw(st.none() | st.sampled_from([10.0, 20.0])),
    )


def row(run_id: str, **changes: Any) -> RunRow:
    values: dict[str, Any] = {
        "run_id": run_id,
        "flow": "main",
        "status": RunStatus.COMPLETED,
        "tag": "hello",
        "tags": '["hello"]',
        "tenant": "",
        "api_key_id": None,
        "sha256": None,
        "worker_id": None,
        "error": None,
        "attempt": 1,
        "submitted_at": None,
        "start_time": None,
        "end_time": None,
        "heartbeat_at": None,
        "updated_at": 0.0,
        "day": 1,
        "seq": 0,
        "expires_at": None,
    }
    return RunRow(**{**values, **changes})


TEXTS = st.sampled_from(["a", "run-0", "RUN-1", "broke", "x_y", "%", "_", "0% of", "ünl", "zzz"])

FILTERS = st.builds(
    RunFilter,
    tenant=st.none() | TENANTS,
    statuses=st.lists(st.sampled_from(RunState), max_size=3, unique=True).map(tuple),
    flow=st.none() | NAMES,
    tag=st.none() | st.sampled_from(["hello", "gpu"]),
    worker_id=st.none() | st.sampled_from(["w1", "w2"]),
    sha256=st.none() | st.sampled_from(["aa", "bb"]),
    late=st.booleans(),
    text=st.none() | TEXTS,
    updated_after=st.none() | TIMES,
    updated_before=st.none() | TIMES,
    submitted_after=st.none() | TIMES,
    submitted_before=st.none() | TIMES,
)
