"""Watches from outside what a scenario does to the buckets, the queue and the tasks' journal."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, assert_never

import structlog
import trio

from pyoco_server.jetstream.connection import Connection
from pyoco_server.jetstream.keyvalue import CaughtUp, Deleted, Entry, KeyValue, Reset
from pyoco_server.model.run import UnreadableSnapshot, decode_snapshot
from pyoco_server.scenario.history import Execution, History, Revision

log = structlog.get_logger(__name__)


class Observer:
    """Writes down every revision of the runs bucket and every job that is queued.

    Args:
        connection: A connection that nothing of the scenario touches.
        history: Where it is written down.
        began: `trio.current_time` at the beginning of the scenario.
        journal: The file of the tasks.
    """

    def __init__(
        self, connection: Connection, history: History, began: float, journal: Path
    ) -> None:
        self._connection = connection
        self._history = history
        self._began = began
        self._journal = journal
        self._changed = trio.Event()
        self.jobs: dict[str, tuple[str, bytes]] = {}

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Watch until cancelled; started when nothing can be missed any more."""
        async with trio.open_nursery() as nursery:
            await nursery.start(self._watch_runs)
            await nursery.start(self._watch_queue)
            task_status.started()

    async def changed(self) -> None:
        """Wait for the next revision of any run."""
        await self._changed.wait()

    async def _watch_runs(self, *, task_status: trio.TaskStatus[None]) -> None:
        bucket = KeyValue(self._connection, "pyoco_runs")
        async with bucket.watch() as events:
            async for event in events:
                match event:
                    case CaughtUp():
                        task_status.started()
                    case Entry(key, value, revision):
                        self._note(key, value, revision)
                    case Deleted(key, revision):
                        self._add(Revision(key, revision, None, self._now()))
                    case Reset():
                        log.warning("the runs bucket is not the one it was")
                    case _:
                        assert_never(event)

    def _note(self, run_id: str, value: bytes, revision: int) -> None:
        try:
            snapshot = decode_snapshot(value)
        except UnreadableSnapshot as error:
            log.warning("unreadable snapshot", run_id=run_id, reason=str(error))
            return
        self._add(Revision(run_id, revision, snapshot, self._now()))

    def _add(self, revision: Revision) -> None:
        self._history.revisions[revision.run_id].append(revision)
        changed, self._changed = self._changed, trio.Event()
        changed.set()

    async def _watch_queue(self, *, task_status: trio.TaskStatus[None]) -> None:
        async with self._connection.subscribe("pyoco.work.>", capacity=100_000) as messages:
            task_status.started()
            async for subject, payload in messages:
                try:
                    run_id = json.loads(payload).get("run_id")
                except (ValueError, AttributeError):
                    continue  # poison of the scenario's own
                if isinstance(run_id, str):
                    self.jobs.setdefault(run_id, (subject, payload))

    def _now(self) -> float:
        return trio.current_time() - self._began

    def read_journal(self) -> None:
        """Take what the tasks wrote so far into the history."""
        starts: dict[tuple[str, int, int, str], dict[str, Any]] = {}
        ends: dict[tuple[str, int, int, str], float] = {}
        lines = self._journal.read_text().splitlines() if self._journal.exists() else []
        for line in lines:
            note = json.loads(line)
            key = (note["run_id"], note["attempt"], note["pid"], note["task"])
            if "ended" in note:
                ends[key] = note["ended"]
            else:
                starts[key] = note
        self._history.executions[:] = [
            Execution(*key, note["started"], ends.get(key)) for key, note in starts.items()
        ]
