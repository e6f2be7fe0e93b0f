"""Storing runs: a PENDING snapshot and a queued job, both acknowledged, or neither."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import structlog
import trio

from pyoco_server.gateway.new_run import (
    Accepted,
    CannotWait,
    NewRun,
    NotAccepted,
    RunTooLarge,
    why_not_accepted,
)
from pyoco_server.gateway.withdrawals import Withdrawals
from pyoco_server.jetstream.connection import Connection
from pyoco_server.jetstream.errors import BatchRefused, BridgeError, PayloadTooLarge, Unanswered
from pyoco_server.jetstream.publish import Publication, publish, publish_batch
from pyoco_server.model import life
from pyoco_server.model.errors import ErrorId
from pyoco_server.model.event import is_first
from pyoco_server.model.job import Job, encode_job, new_run_id, with_revision
from pyoco_server.model.json_text import encode_json
from pyoco_server.model.punctuality import has_started
from pyoco_server.model.run import RunSnapshot, UnreadableSnapshot, known
from pyoco_server.store.queue import JobQueue
from pyoco_server.store.runs import (
    BATCH_SECONDS,
    RunNotFound,
    RunStore,
    StoredRun,
    is_untouched,
)
from pyoco_server.store.workflows import WorkflowStore

log = structlog.get_logger(__name__)

# What a worker adds to a snapshot beyond the submitted one (its names, times, task states, an error) must
# find room too, or a run would be accepted that can never be written back.
SNAPSHOT_ROOM_BYTES = 32 * 1024
# For a job to be queued, retries included.
_QUEUE_SECONDS = 2.0
# Of a job, for the message's headers and the revision that is added to it.
_JOB_ROOM_BYTES = 1024
# A run that repeats another one names it, and who asks for it now: what was accepted once fits again.
_AGAIN_BYTES = 768


@dataclass(slots=True)
class Draft:
    """A run on its way in, written once.

    Attributes:
        begun: Whether its snapshot may be stored.
        stored: Its snapshot, once it is known to be.
        queued: Whether its job is known to be queued.
    """

    job: Job
    snapshot: RunSnapshot
    encoded_job: bytes
    encoded_snapshot: bytes
    begun: bool = False
    stored: StoredRun | None = None
    queued: bool = False

    @property
    def waits_until(self) -> float | None:
        """When its job is to be queued, in unix seconds; None for at once."""
        return known(self.job.scheduled_for)

    @property
    def size(self) -> int:
        """How many bytes of it go to NATS."""
        return len(self.encoded_job) + len(self.encoded_snapshot)

    @property
    def accepted(self) -> Accepted:
        """The answer to its submission."""
        return Accepted(self.job.run_id, scheduled_for=self.waits_until)


class Intake:
    """The two writes of a submission, and taking them back.

    Args:
        withdrawals: Where to leave what cannot be taken back now.
    """

    def __init__(
        self,
        connection: Connection,
        runs: RunStore,
        workflows: WorkflowStore,
        withdrawals: Withdrawals,
        queue: JobQueue,
    ) -> None:
        self._connection = connection
        self._runs = runs
        self._workflows = workflows
        self._withdrawals = withdrawals
        self._queue = queue
        # The connection on which a stream was found to take no batches.
        self._no_batches_on = -1

    def draft(self, run: NewRun, run_id: str | None = None) -> Draft:
        """Write a run down, and make sure that it can be stored, executed and written back.

        Without an id it gets a new one.

        Raises:
            RunTooLarge: It can not; the text names the limit.
        """
        job = run.job(run_id or new_run_id(), self._runs.now())
        snapshot = life.pending(job)
        draft = Draft(job, snapshot, encode_job(job), encode_json(snapshot))
        more = _AGAIN_BYTES if run.retry_of is not None else 0
        limit = self._runs.max_snapshot_bytes
        if limit is not None:
            most = limit - min(SNAPSHOT_ROOM_BYTES, limit // 2) + more
            size = len(draft.encoded_snapshot)
            if size > most:
                raise RunTooLarge(
                    f"run of {size} bytes with its params: at most {most} are taken, so that its results "
                    f"find room in a snapshot of {limit} (PYOCO_MAX_RUN_SNAPSHOT_BYTES, max_payload of NATS)"
                )
        limit = self._connection.status.max_payload
        size = len(draft.encoded_job)
        if limit is not None and size > (most := limit - _JOB_ROOM_BYTES + more):
            raise RunTooLarge(
                f"job of {size} bytes with its params and flow.yaml: at most {most} are "
                f"taken (max_payload of NATS is {limit})"
            )
        return draft

    async def prepare(self, *runs: NewRun) -> None:
        """Make ready for runs that ask something of time.

        Raises:
            CannotWait: One is to start later, and the server cannot hold it back.
            BridgeError: NATS could not be asked for its time.
        """
        await self._runs.learn_time()
        now = self._runs.now()
        later = any(run.timing.due(now) is not None for run in runs)
        if later and not await self._queue.can_hold_back():
            raise CannotWait

    @contextmanager
    def undone_when_cancelled(self, *drafts: Draft) -> Iterator[None]:
        """Have what may be stored taken back when the block is cancelled, which cannot wait for it."""
        try:
            yield
        except trio.Cancelled:
            for draft in drafts:
                self._undo_soon(draft)
            raise

    async def accept(self, draft: Draft) -> None:
        """Take a run in from where it is.

        Raises:
            Refusal: It is not accepted.
            BridgeError: NATS refused or could not be asked; nothing stays behind.
        """
        await self.enqueue(draft, draft.stored or await self.store(draft))

    async def accept_all(self, drafts: Sequence[Draft]) -> None:
        """Take runs in that are not begun: all of their snapshots together, then all of their jobs.

        Raises:
            BridgeError: That did not work; each may be accepted by itself, from where it is.
        """
        if self._connection.epoch == self._no_batches_on:
            raise BatchRefused("the streams take no batches")
        for draft in drafts:
            await self._keep_workflow(draft)
        try:
            stored = await self._store_all(drafts)
            jobs = [self._publication(*pair) for pair in zip(drafts, stored, strict=True)]
            await publish_batch(self._connection, jobs, within=BATCH_SECONDS)
        except BatchRefused as error:
            if error.lasting:
                self._no_batches_on = self._connection.epoch
            raise
        for draft in drafts:
            draft.queued = True

    async def _store_all(self, drafts: Sequence[Draft]) -> Sequence[StoredRun]:
        for draft in drafts:
            draft.begun = True
        try:
            all_stored = await self._runs.create_all(
                [(draft.snapshot, draft.encoded_snapshot) for draft in drafts]
            )
        except Unanswered:
            raise
        except BridgeError:
            for draft in drafts:
                draft.begun = False
            raise
        for draft, stored in zip(drafts, all_stored, strict=True):
            draft.stored = stored
        return all_stored

    async def store(self, draft: Draft, *, after: int = 0) -> StoredRun:
        """Store the snapshot of a run that nobody else stores; see `RunStore.create`.

        Raises:
            BridgeError: NATS refused or could not be asked; nothing stays behind.
        """
        unsure = draft.begun
        if not unsure:
            await self._keep_workflow(draft)
        draft.begun = True
        try:
            draft.stored = await self._runs.create(
                draft.snapshot, encoded=draft.encoded_snapshot, after=after, unsure=unsure
            )
        except Unanswered:
            # Perhaps it is stored after all, or will be: no job was queued, so it must not stay.
            self._undo_soon(draft)
            raise
        return draft.stored

    async def store_again(self, draft: Draft) -> StoredRun | None:
        """Store the snapshot of a run that an earlier try of its submission may have stored.

        It takes the place of one that no worker has touched: what the earlier try has queued, or will
        queue, does not belong to it and is dropped by the worker that meets it.

        Returns:
            What is stored; None where a worker, or a cancel, has moved the run on, so that its job is queued.

        Raises:
            WrongRevision: Somebody else wrote at the same time.
            BridgeError: NATS refused or could not be asked; nothing stays behind.
        """
        try:
            found = await self._runs.get(draft.job.run_id)
        except RunNotFound as missing:
            return await self.store(draft, after=missing.revision)
        return await self.store(draft, after=found.revision) if is_first(found.snapshot) else None

    async def due_of(self, run_id: str) -> float | None:
        """When a run that was accepted may start, where it waits for that.

        Raises:
            BridgeError: NATS could not be asked.
        """
        stored = await self._runs.find(run_id)
        if stored is None or has_started(stored.snapshot):
            return None
        return known(stored.snapshot.scheduled_for)

    async def enqueue(self, draft: Draft, stored: StoredRun) -> None:
        """Queue the job of a stored run, unless it is; when that is not acknowledged, take the snapshot back.

        What is known to be queued may be accepted by now: it is neither queued again nor taken back for want
        of an answer. It returns as well where it was not acknowledged and still a worker has it.

        Raises:
            RunTooLarge: NATS does not take a job this large.
            NotAccepted: It was not acknowledged, and the snapshot is taken back.
            BridgeError: The same.
        """
        if draft.queued:
            return
        job = self._publication(draft, stored)
        deadline = trio.current_time() + _QUEUE_SECONDS
        try:
            while True:
                try:
                    left = max(deadline - trio.current_time(), 0.1)
                    await publish(self._connection, job, within=left)
                except Unanswered:
                    if trio.current_time() >= deadline:
                        raise
                    await trio.sleep(0.05)
                else:
                    return
        except PayloadTooLarge as error:
            await self.take_back(stored)
            raise RunTooLarge(str(error)) from None
        except BridgeError:
            if await self.take_back(stored):
                raise

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
            self._withdrawals.add(partial(self.undo, stored.snapshot))
            why = why_not_accepted(error, keyed=False, run_id=run_id)
            raise NotAccepted(f"taking back what was stored: {why}", run_id) from None

    def _undo_soon(self, draft: Draft) -> None:
        if draft.begun:
            self._withdrawals.add(partial(self.undo, draft.snapshot))

    async def undo(self, snapshot: RunSnapshot) -> None:
        """Take a snapshot back that may be stored, or come to be, unless somebody has taken the run on.

        Raises:
            BridgeError: NATS refused or could not be asked.
        """
        while True:
            try:
                stored = await self._runs.get(snapshot.run_id)
                if not is_untouched(stored.snapshot, snapshot) or await self._runs.withdraw(stored):
                    return
            except RunNotFound as missing:
                # So that a create which is still under way is refused when it arrives.
                if await self._runs.forbid(missing):
                    return
            except UnreadableSnapshot:
                return

    async def _keep_workflow(self, draft: Draft) -> None:
        if draft.job.workflow_yaml is not None:
            # Before the snapshot, so that a failure leaves nothing to take back; it costs a round trip
            # for the first run of a text only.
            await self._workflows.put(draft.job.workflow_yaml)

    def _publication(self, draft: Draft, stored: StoredRun) -> Publication:
        # The message id makes trying again safe: JetStream stores it once within its duplicate window. It
        # names the snapshot too, since the job of one that was taken back may be gone from the queue and
        # is remembered there all the same.
        job = draft.job
        payload = with_revision(draft.encoded_job, stored.revision)
        msg_id = f"{job.run_id}.{stored.revision}"
        return self._queue.publication(job, payload, at=draft.waits_until, msg_id=msg_id)
