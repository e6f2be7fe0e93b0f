"""What task code writes into the pipe of its child is about its own run, and never about the slot."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from backend.stage import ended, eventually, running
from isolation.test_worker import OPTIONS, output, submitted
from pyoco_server.backend import Backend
from pyoco_server.model import life
from pyoco_server.model.run import RunSnapshot, RunStatus
from pyoco_server.worker.slot_board import SlotBoard

pytestmark = pytest.mark.nats


@pytest.fixture
async def backend(tmp_path: Path) -> AsyncIterator[Backend]:
    async with running(tmp_path, worker=OPTIONS) as backend:
        yield backend
        slot = backend.system.tree().find("/worker/slots/0")
        assert slot is not None
        assert slot.restarts == 0


async def lied(backend: Backend, message: dict[str, Any], then: str = "wait") -> RunSnapshot:
    run_id = await submitted(backend, "a", "liar:say", message=message, then=then)
    return await ended(backend, run_id)


async def child(backend: Backend) -> int | None:
    """The child of the slot that has no run."""
    record = await backend.worker(backend.worker_id or "")
    return record.slots[0].pid if record is not None and record.slots[0].run_id is None else None


@pytest.mark.parametrize(
    "message",
    [
        {"status": "PENDING"},
        {"status": "RUNNING", "reason": "no_threads"},
        {"status": "COMPLETED", "tasks": {"a": "SKIPPED"}},
        {"status": "FAILED", "usage": {"peak_memory_bytes": 2**60}},
        {"type": "task_changed", "name": "a", "at": 0, "record": {"state": "SKIPPED"}},
    ],
)
async def test_what_no_child_says_ends_the_run_with_its_child(
    backend: Backend, message: dict[str, Any]
) -> None:
    end = await lied(backend, message)
    assert (end.status, end.reason) == (RunStatus.FAILED, "worker_crashed")
    assert await output(backend, "a", "os:getpid")


async def test_a_child_that_ends_behind_the_end_of_its_run_is_replaced(backend: Backend) -> None:
    before = await output(backend, "a", "os:getpid")
    assert (await lied(backend, {"status": "COMPLETED"}, "exit")).status is RunStatus.COMPLETED

    async def replaced() -> bool:
        return await child(backend) not in (None, before)

    await eventually(replaced, what="another child")
    assert await output(backend, "a", "os:getpid") != before


async def test_that_there_are_no_threads_is_not_believed_for_ever(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(life, "MAX_UNCOUNTED", 2)
    reasons: list[str] = []
    rests = SlotBoard.rests

    def resting(board: SlotBoard, index: int, reason: str) -> None:
        reasons.append(reason)
        rests(board, index, reason)

    monkeypatch.setattr(SlotBoard, "rests", resting)
    end = await lied(
        backend, {"status": "FAILED", "reason": "no_threads", "error": "a secret"}, "exit"
    )
    assert (end.status, end.reason) == (RunStatus.FAILED, "max_deliveries")
    assert (end.attempt, end.uncounted_attempts) == (2, 2)
    assert set(reasons) == {"the worker had no threads or processes left"}
    assert await output(backend, "a", "os:getpid")
