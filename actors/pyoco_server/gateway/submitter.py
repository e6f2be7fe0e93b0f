"""Takes runs in: a PENDING snapshot and a queued job, both acknowledged, or neither."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import structlog
import trio
from msgspec.structs import replace

from pyoco_server.jetstream.connection import Connection
from pyoco_server.jetstream.errors import BridgeError, PayloadTooLarge, Unanswered
from pyoco_server.jetstream.publish import publish_acked
from pyoco_server.kernel import Actor, Refusal, Reply, Request
from pyoco_server.model import life
from pyoco_server.model.errors import ErrorId
from pyoco_server.model.job import Job, encode_job, new_run_id
from pyoco_server.model.run import RunSnapshot, SnapshotTooLarge
from pyoco_server.store.runs import RunStore, StoredRun
from pyoco_server.store.workflows import WorkflowStore

log = structlog.get_logger(__name__)

# What a worker adds to a snapshot beyond the submitted one (its names, times, task states) must find
# room too, or a run would be accepted that can never be written back.
_SNAPSHOT_ROOM_BYTES = 16 * 1024


class NotAccepted(Refusal):
    """NATS could not be asked, or did not acknowledge in time; nothing was accepted."""


class RunTooLarge(Refusal):
    """The run's params do not fit into what NATS or the snapshot limit allows."""


@dataclass(frozen=True, slots=True)
class NewRun:
    """A run as its submitter describes it.

    Attributes:
        flow_name: Which flow.
        tag: Where it is routed.
        tags: What is shown; ``[tag]`` when empty.
        params: JSON values.
        workflow_yaml: The text of a flow.yaml, for a run that brings its flow.
        workflow_yaml_sha256: Hex digest of that text's bytes.
        workflow_yaml_bytes: Its size in bytes.
        tenant_id: Whose run it is, under auth.
        api_key_id: Which key submitted it, under auth.
        timeout_sec: How long one attempt may take, in seconds.
        max_attempts: How often it may be tried.
        request_id: Id of the submitting request, for the logs.
        traceparent: W3C trace context of the submitting request.
    """

    flow_name: str
    tag: str
    tags: tuple[str, ...] = ()
    params: dict[str, Any] = field(default_factory=dict)
    workflow_yaml: str | None = None
    workflow_yaml_sha256: str | None = None
    workflow_yaml_bytes: int | None = None
    tenant_id: str | None = None
    api_key_id: str | None = None
    timeout_sec: float | None = None
    max_attempts: int | None = None
    request_id: str | None = None
    traceparent: str | None = None


@dataclass(frozen=True, slots=True)
class Submit(Request[RunSnapshot]):
    """Accept a run; answered with its first snapshot, refused with `NotAccepted` or `RunTooLarge`."""

    run: NewRun


class Submitter(Actor[Submit]):
    """Pipelines submissions: each runs in a task of its own, at most ``in_flight`` at a time.

    Args:
        connection: The way to JetStream.
        runs: The stored runs.
        workflows: The kept flow.yaml texts.
        subject_prefix: ``pyoco.work``; a job goes to ``<prefix>.<tag>``.
        max_snapshot_bytes: Limit of an encoded snapshot.
        within: Seconds for each of the two writes.
        in_flight: How many submissions are worked on at once; more wait in the mailbox.
    """

    def __init__(
        self,
        connection: Connection,
        runs: RunStore,
        workflows: WorkflowStore,
        *,
        subject_prefix: str,
        max_snapshot_bytes: int,
        within: float = 2.0,
        in_flight: int = 256,
    ) -> None:
        self._connection = connection
        self._runs = runs
        self._workflows = workflows
        self._prefix = subject_prefix
        self._max_snapshot_bytes = max_snapshot_bytes
        self._within = within
        self._room = trio.CapacityLimiter(in_flight)

    async def handle(self, message: Submit) -> None:
        """Start the submission and be free for the next one."""
        reply = self.reply_to(message)
        permit = object()
        await self._room.acquire_on_behalf_of(permit)
        self.spawn(self._submit, message.run, reply, permit)

    async def _submit(self, run: NewRun, reply: Reply[RunSnapshot], permit: object) -> None:
        try:
            reply.send(await self._accept(run))
        except Refusal as refusal:
            reply.fail(refusal)
        except BridgeError as error:
            log.warning("run not accepted", err_id=ErrorId.NATS_UNAVAILABLE, reason=str(error))
            reply.fail(NotAccepted(str(error)))
        finally:
            self._room.release_on_behalf_of(permit)

    async def _accept(self, run: NewRun) -> RunSnapshot:
        job = Job(
            run_id=new_run_id(),
            flow_name=run.flow_name,
            tag=run.tag,
            tags=list(run.tags) or [run.tag],
            params=run.params,
            submitted_at=time.time(),
            tenant_id=run.tenant_id,
            api_key_id=run.api_key_id,
            workflow_yaml=run.workflow_yaml,
            workflow_yaml_sha256=run.workflow_yaml_sha256,
            workflow_yaml_bytes=run.workflow_yaml_bytes,
            timeout_sec=run.timeout_sec,
            max_attempts=run.max_attempts,
            request_id=run.request_id,
            traceparent=run.traceparent,
        )
        snapshot = life.pending(job)
        self._check_size(job, snapshot)
        if run.workflow_yaml is not None:
            # Before the snapshot, so that a failure leaves nothing to take back; it costs a round trip
            # for the first run of a text only.
            await self._workflows.put(run.workflow_yaml)
        try:
            stored = await self._runs.create(snapshot)
        except SnapshotTooLarge as error:
            raise RunTooLarge(str(error)) from None
        except Unanswered:
            # Perhaps it is stored after all: no job was queued, so it must not stay.
            self.spawn(self._undo, snapshot)
            raise
        await self._enqueue(job, stored)
        return snapshot

    def _check_size(self, job: Job, snapshot: RunSnapshot) -> None:
        room = self._max_snapshot_bytes - _SNAPSHOT_ROOM_BYTES
        size = len(encode_job(Job(run_id="", flow_name="", params=snapshot.params)))
        if self._max_snapshot_bytes > 0 and size > max(room, self._max_snapshot_bytes // 2):
            raise RunTooLarge(
                f"params of {size} bytes: at most {max(room, self._max_snapshot_bytes // 2)} are allowed "
                f"(PYOCO_MAX_RUN_SNAPSHOT_BYTES is {self._max_snapshot_bytes})"
            )
        limit = self._connection.status.max_payload
        whole = len(encode_job(job))
        if limit is not None and whole > limit - 1024:
            raise RunTooLarge(
                f"job of {whole} bytes: NATS takes at most {limit - 1024} (max_payload)"
            )

    async def _enqueue(self, job: Job, stored: StoredRun) -> None:
        """Publish the job; when it is not acknowledged, take the snapshot back."""
        payload = encode_job(replace(job, snapshot_revision=stored.revision))
        deadline = trio.current_time() + self._within
        try:
            while True:
                try:
                    # The message id makes trying again safe: JetStream stores it once (its
                    # duplicate window is two minutes by default).
                    await publish_acked(
                        self._connection,
                        f"{self._prefix}.{job.tag}",
                        payload,
                        msg_id=job.run_id,
                        within=max(deadline - trio.current_time(), 0.1),
                    )
                except Unanswered:
                    if trio.current_time() >= deadline:
                        raise
                    await trio.sleep(0.05)
                else:
                    return
        except PayloadTooLarge as error:
            await self._take_back(stored)
            raise RunTooLarge(str(error)) from None
        except BridgeError:
            if await self._take_back(stored):
                raise

    async def _take_back(self, stored: StoredRun) -> bool:
        """Withdraw the snapshot; False when a worker has the job after all, so the run was accepted.

        A worker that gets the job of a withdrawn snapshot drops it, so this decides the submission.
        """
        try:
            return await self._runs.withdraw(stored)
        except BridgeError as error:
            log.warning(
                "orphan run may remain",
                err_id=ErrorId.ORPHAN_RUN,
                run_id=stored.snapshot.run_id,
                reason=str(error),
            )
            self.spawn(self._undo, stored.snapshot)
            return True

    async def _undo(self, snapshot: RunSnapshot) -> None:
        """Withdraw a snapshot as soon as NATS lets us, unless somebody has taken the run on."""
        delay = 0.1
        while True:
            await trio.sleep(delay)
            delay = min(delay * 2, 5.0)
            try:
                stored = await self._runs.get(snapshot.run_id)
                if stored.snapshot == snapshot:
                    await self._runs.withdraw(stored)
            except Refusal:
                return
            except BridgeError:
                continue
            else:
                return
