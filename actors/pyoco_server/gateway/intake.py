"""Storing a run: a PENDING snapshot and a queued job, both acknowledged, or neither."""

from __future__ import annotations

from collections.abc import Callable

import structlog
import trio
from msgspec.structs import replace

from pyoco_server.gateway.new_run import NotAccepted, RunTooLarge
from pyoco_server.jetstream.connection import Connection
from pyoco_server.jetstream.errors import BridgeError, PayloadTooLarge, Unanswered
from pyoco_server.jetstream.publish import publish_acked
from pyoco_server.kernel import Refusal
from pyoco_server.model import life
from pyoco_server.model.errors import ErrorId
from pyoco_server.model.job import Job, encode_job
from pyoco_server.model.json_text import encode_json
from pyoco_server.model.run import RunSnapshot, RunStatus, SnapshotTooLarge
from pyoco_server.store.runs import RunNotFound, RunStore, StoredRun
from pyoco_server.store.workflows import WorkflowStore

log = structlog.get_logger(__name__)

# What a worker adds to a snapshot beyond the submitted one (its names, times, task states, an error) must
# find room too, or a run would be accepted that can never be written back.
SNAPSHOT_ROOM_BYTES = 32 * 1024
# Of a job, for the message's headers and the revision that is added to it.
_JOB_ROOM_BYTES = 1024


class Intake:
    """The two writes of a submission, and taking them back.

    Args:
        connection: The way to JetStream.
        runs: The stored runs.
        workflows: The kept flow.yaml texts.
        subject_prefix: ``pyoco.work``; a job goes to ``<prefix>.<tag>``.
        within: Seconds for queueing a job.
        undo_soon: Has `undo` run beside everything else, for as long as the gateway lives.
    """

    def __init__(
        self,
        connection: Connection,
        runs: RunStore,
        workflows: WorkflowStore,
        *,
        subject_prefix: str,
        within: float,
        undo_soon: Callable[[RunSnapshot], None],
    ) -> None:
        self._connection = connection
        self._runs = runs
        self._workflows = workflows
        self._prefix = subject_prefix
        self._within = within
        self._undo_soon = undo_soon

    def check(self, job: Job) -> None:
        """Make sure that a run can be stored, executed and written back.

        Raises:
            RunTooLarge: It can not; the text names the limit.
        """
        limit = self._runs.max_snapshot_bytes
        if limit is not None:
            most = limit - min(SNAPSHOT_ROOM_BYTES, limit // 2)
            size = len(encode_json(life.pending(job)))
            if size > most:
                raise RunTooLarge(
                    f"run of {size} bytes with its params: at most {most} are taken, so that its results "
                    f"find room in a snapshot of {limit} (PYOCO_MAX_RUN_SNAPSHOT_BYTES, max_payload of NATS)"
                )
        limit = self._connection.status.max_payload
        size = len(encode_job(job))
        if limit is not None and size > limit - _JOB_ROOM_BYTES:
            raise RunTooLarge(
                f"job of {size} bytes with its params and flow.yaml: at most {limit - _JOB_ROOM_BYTES} are "
                f"taken (max_payload of NATS is {limit})"
            )

    async def store(self, job: Job) -> StoredRun:
        """Store the snapshot of a run whose id nobody else has.

        Raises:
            RunTooLarge: It does not fit.
            BridgeError: NATS refused or could not be asked; nothing stays behind.
        """
        await self._keep_workflow(job)
        return await self._create(life.pending(job), 0)

    async def store_again(self, job: Job) -> StoredRun | None:
        """Store the snapshot of a run that an earlier try of its submission may have stored.

        It takes the place of one that no worker has touched: what the earlier try has queued, or will
        queue, does not belong to it and is dropped by the worker that meets it.

        Returns:
            What is stored; None where a worker, or a cancel, has moved the run on, so that its job is queued.

        Raises:
            RunTooLarge: It does not fit.
            WrongRevision: Somebody else wrote at the same time.
            BridgeError: NATS refused or could not be asked; nothing stays behind.
        """
        await self._keep_workflow(job)
        snapshot = life.pending(job)
        try:
            found = await self._runs.get(job.run_id)
        except RunNotFound as missing:
            return await self._create(snapshot, missing.revision)
        if found.snapshot.status is not RunStatus.PENDING or found.snapshot.attempt > 0:
            return None
        return await self._create(snapshot, found.revision)

    async def enqueue(self, job: Job, stored: StoredRun) -> bool:
        """Queue the job of a stored run; when that is not acknowledged, take the snapshot back.

        Returns:
            False where it was not acknowledged and still a worker has it.

        Raises:
            RunTooLarge: NATS does not take a job this large.
            NotAccepted: It was not acknowledged, and the snapshot is taken back.
            BridgeError: The same.
        """
        payload = encode_job(replace(job, snapshot_revision=stored.revision))
        deadline = trio.current_time() + self._within
        try:
            while True:
                try:
                    # The message id makes trying again safe: JetStream stores it once within its
                    # duplicate window. It names the snapshot too, since the job of one that was taken back
                    # may be gone from the queue and is remembered there all the same.
                    await publish_acked(
                        self._connection,
                        f"{self._prefix}.{job.tag}",
                        payload,
                        msg_id=f"{job.run_id}.{stored.revision}",
                        within=max(deadline - trio.current_time(), 0.1),
                    )
                except Unanswered:
                    if trio.current_time() >= deadline:
                        raise
                    await trio.sleep(0.05)
                else:
                    return True
        except PayloadTooLarge as error:
            await self.take_back(stored)
            raise RunTooLarge(str(error)) from None
        except BridgeError:
            if await self.take_back(stored):
                raise
            return False

    async def take_back(self, stored: StoredRun) -> bool:
        """Withdraw a snapshot; False where a worker has the job after all, so that the run goes on.

        A worker that gets the job of a withdrawn snapshot drops it, so this decides the submission.

        Raises:
            NotAccepted: NATS could not be asked; it is tried until it can.
        """
        try:
            return await self._runs.withdraw(stored)
        except BridgeError as error:
            run_id = stored.snapshot.run_id
            log.warning(
                "orphan run may remain",
                err_id=ErrorId.ORPHAN_RUN,
                run_id=run_id,
                reason=str(error),
            )
            self._undo_soon(stored.snapshot)
            raise NotAccepted(f"taking back what was stored: {error}", run_id) from None

    async def _keep_workflow(self, job: Job) -> None:
        if job.workflow_yaml is not None:
            # Before the snapshot, so that a failure leaves nothing to take back; it costs a round trip
            # for the first run of a text only.
            await self._workflows.put(job.workflow_yaml)

    async def _create(self, snapshot: RunSnapshot, after: int) -> StoredRun:
        try:
            return await self._runs.create(snapshot, after=after)
        except SnapshotTooLarge as error:
            raise RunTooLarge(str(error)) from None
        except Unanswered:
            # Perhaps it is stored after all, or will be: no job was queued, so it must not stay.
            self._undo_soon(snapshot)
            raise

    async def undo(self, snapshot: RunSnapshot) -> None:
        """Withdraw a snapshot as soon as NATS lets us, unless somebody has taken the run on."""
        delay = 0.1
        while True:
            await trio.sleep(delay)
            delay = min(delay * 2, 5.0)
            try:
                stored = await self._runs.get(snapshot.run_id)
                if stored.snapshot != snapshot or await self._runs.withdraw(stored):
                    return
            except RunNotFound as missing:
                # So that a create which is still under way is refused when it arrives.
                if await self._forbid(missing):
                    return
            except Refusal:
                return
            except BridgeError:
                continue

    async def _forbid(self, missing: RunNotFound) -> bool:
        try:
            return await self._runs.forbid(missing)
        except BridgeError:
            return False
