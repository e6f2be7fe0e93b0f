"""Carries out cancel requests: recorded with a compare-and-set, then pushed to the worker."""

from __future__ import annotations

from dataclasses import dataclass

import structlog

from pyoco_server.gateway.waiting_runs import find_job
from pyoco_server.jetstream.connection import Connection
from pyoco_server.jetstream.errors import BridgeError, WrongRevision
from pyoco_server.kernel import Actor, Refusal, Request
from pyoco_server.model import life
from pyoco_server.model.run import RunSnapshot, RunStatus, SnapshotTooLarge, UnreadableSnapshot
from pyoco_server.store.control import CancelRecorded, control_subject, encode_control
from pyoco_server.store.queue import JobQueue
from pyoco_server.store.runs import RunStore, StoredRun

log = structlog.get_logger(__name__)


class CancelNotStored(Refusal):
    """NATS could not be asked; the request is not recorded."""


@dataclass(frozen=True, slots=True)
class RecordCancel(Request[RunSnapshot]):
    """Cancel a run; answered with the snapshot as it then is, CANCELLING or terminal.

    Refused with `RunNotFound`, `CancelNotStored` or `UnreadableSnapshot`.

    Attributes:
        run_id: The run.
        by: Who asks, such as ``api_key:<key_id>``.
        reason: Why, for people.
    """

    run_id: str
    by: str | None = None
    reason: str | None = None


class Canceller(Actor[RecordCancel]):
    """Records requests one after the other in tasks of their own; the bucket decides races."""

    def __init__(self, connection: Connection, runs: RunStore, queue: JobQueue) -> None:
        self._connection = connection
        self._runs = runs
        self._queue = queue

    async def handle(self, message: RecordCancel) -> None:
        """Start the request and be free for the next one."""
        self.answer(message, self._cancel, message, refusing=(Refusal, UnreadableSnapshot))

    async def _cancel(self, request: RecordCancel) -> RunSnapshot:
        def rule(run: RunSnapshot) -> tuple[RunSnapshot, None]:
            now = self._runs.now()
            asked = life.request_cancel(run, by=request.by, reason=request.reason, now=now)
            return asked.snapshot, None

        try:
            before = await self._runs.get(request.run_id)
            stored, _ = await self._runs.change(request.run_id, rule, known=before)
        except (BridgeError, SnapshotTooLarge) as error:
            raise CancelNotStored(str(error)) from None
        snapshot = stored.snapshot
        if snapshot.status is RunStatus.CANCELLING:
            if snapshot.worker_instance_id is not None:
                await self._push(snapshot.run_id, snapshot.worker_instance_id)
            elif snapshot.start_time is None:
                # One that has started without an instance is executed by a worker of version 0.5.1.
                self.spawn(self._end_unclaimed, stored, before)
        return snapshot

    async def _push(self, run_id: str, instance_id: str) -> None:
        """Tell the worker at once; should this get lost, its next write meets the request."""
        try:
            await self._connection.publish(
                control_subject(instance_id), encode_control(CancelRecorded(run_id=run_id))
            )
        except BridgeError as error:
            log.info("cancel not pushed", run_id=run_id, reason=str(error))

    async def _end_unclaimed(self, cancelling: StoredRun, before: StoredRun) -> None:
        """End a run that no worker holds, then take its job off the queue.

        A worker that has the job in its hands already, or meets it because it was not found, drops it.
        """
        run = cancelling.snapshot
        ended = life.abandon(run, reason=life.CANCELLED, error="", now=self._runs.now())
        try:
            await self._runs.replace(cancelling, ended.snapshot)
            job = await find_job(self._queue, before)
            if job is not None:
                await self._queue.remove(job.sequence)
        except WrongRevision:
            return  # a worker, or the canceller of another gateway, was faster and ended it
        except (BridgeError, Refusal, SnapshotTooLarge) as error:
            # The worker that meets the job, or the reaper, does what is left.
            log.info("cancelled run not withdrawn yet", run_id=run.run_id, reason=str(error))
