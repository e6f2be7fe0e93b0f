"""What a client sees of stored data."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from pyoco_server.model.run import RunSnapshot
from pyoco_server.model.worker import WorkerRecord, WorkerState

_RECORD_WORDS = frozenset({"records", "task_records", "full", "all"})


def wants_records(include: Iterable[str]) -> bool:
    """Whether the ``include`` words of a query ask for task records; commas separate words too."""
    words = {word.strip().lower() for part in include for word in part.split(",")}
    return bool(words & _RECORD_WORDS)


def run_view(snapshot: RunSnapshot, *, records: bool) -> dict[str, Any]:
    """The snapshot as a JSON object, without task records unless asked for."""
    view: dict[str, Any] = msgspec.structs.asdict(snapshot)
    if not records:
        del view["task_records"], view["task_records_truncated"]
    return view


def worker_liveness(record: WorkerRecord | None, state: WorkerState) -> dict[str, Any]:
    """The fields that `GET /runs/{id}` adds about the run's worker.

    Args:
        record: Its last known record, None where there is none any more.
        state: Its state as of now.
    """
    if record is None:
        return {
            "worker_alive": False,
            "worker_state": state,
            "worker_heartbeat_at": None,
        }
    return {
        "worker_alive": state.active,
        "worker_state": state,
        "worker_heartbeat_at": record.last_heartbeat_at,
        "worker_hidden": record.hidden,
        "worker_tags": record.tags,
    }


def tasks_view(snapshot: RunSnapshot) -> dict[str, Any]:
    """The answer of `GET /runs/{id}/tasks`."""
    names = ("run_id", "flow_name", "status", "tasks", "task_records", "task_records_truncated")
    return {name: getattr(snapshot, name) for name in names}
