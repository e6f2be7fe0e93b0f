"""Watches from outside what a scenario does to the buckets, the queue and the tasks' journal."""

from __future__ import annotations

import json
import time
from contextlib import aclosing
from pathlib import Path
from typing import Any, Final, assert_never

import structlog
import trio

from pyoco_server.jetstream.connection import Connection
from pyoco_server.jetstream.consumer import Message
from pyoco_server.jetstream.follow import CaughtUp, Follower, Reset
from pyoco_server.jetstream.inventory import stream_info, update_stream
from pyoco_server.model.run import UnreadableSnapshot, decode_snapshot
from pyoco_server.scenario.document import ScenarioError
from pyoco_server.scenario.history import History, Revision, TaskExecution

log = structlog.get_logger(__name__)

_STREAM: Final = "KV_pyoco_runs"
_KEYS: Final = "$KV.pyoco_runs."
# For clients of NATS a bucket without a limit is none.
_MOST_REVISIONS: Final = 1_000_000
_BUCKET_SECONDS: Final = 60.0
_LOOK_SECONDS: Final = 0.05


class Observer:
    """Writes down every revision of the runs bucket and every job that is queued.

    Args:
        connection: A connection that nothing of the scenario touches.
        history: Where it is written down; its time begins now.
        journal: The file of the tasks.
    """

    def __init__(self, connection: Connection, history: History, journal: Path) -> None:
        self._connection = connection
        self._history = history
        # What others write has unix seconds.
        self._began = time.time()
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
        await self._keep_every_revision()
        follower = Follower(self._connection, _STREAM, f"{_KEYS}>", start="all")
        async with aclosing(follower.messages()) as messages:
            async for message in messages:
                match message:
                    case CaughtUp():
                        task_status.started()
                    case Message():
                        self._note(message)
                    case Reset():
                        log.warning("the runs bucket is not the one it was")
                    case _:
                        assert_never(message)

    async def _keep_every_revision(self) -> None:
        """Have the bucket keep what NATS would drop before it is read: it is away now and then."""
        with trio.move_on_after(_BUCKET_SECONDS):
            while (info := await stream_info(self._connection, _STREAM)) is None:  # noqa: ASYNC110
                await trio.sleep(_LOOK_SECONDS)
            config = info.config | {"max_msgs_per_subject": _MOST_REVISIONS}
            await update_stream(self._connection, config)
            return
        raise ScenarioError(f"no gateway made the runs bucket within {_BUCKET_SECONDS:g} s")

    def _note(self, message: Message) -> None:
        run_id = message.subject.removeprefix(_KEYS)
        snapshot = None
        if "KV-Operation" not in message.headers and "Nats-Marker-Reason" not in message.headers:
            try:
                snapshot = decode_snapshot(message.data)
            except UnreadableSnapshot as error:
                log.warning("unreadable snapshot", run_id=run_id, reason=str(error))
                return
        at = message.delivery.timestamp - self._began
        revision = Revision(run_id, message.stream_sequence, snapshot, at)
        self._history.revisions[run_id].append(revision)
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

    def read_journal(self) -> None:
        """Take what the tasks wrote so far into the history."""
        starts: dict[tuple[str, int, int, str], dict[str, Any]] = {}
        ends: dict[tuple[str, int, int, str], float] = {}
        lines = self._journal.read_text().splitlines() if self._journal.exists() else []
        for line in lines:
            note = json.loads(line)
            key = (note["run_id"], note["attempt"], note["pid"], note["task"])
            if "ended" in note:
                ends[key] = note["ended"] - self._began
            else:
                starts[key] = note
        self._history.executions[:] = [
            TaskExecution(*key, note["started"] - self._began, ends.get(key))
            for key, note in starts.items()
        ]
