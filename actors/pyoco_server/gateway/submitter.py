"""Takes runs in, pipelined: each submission in a task of its own."""

from __future__ import annotations

import time
from dataclasses import dataclass

import structlog
import trio

from pyoco_server.gateway.idempotency import OnceOnly
from pyoco_server.gateway.intake import Intake
from pyoco_server.gateway.new_run import Accepted, KeyReused, NewRun, NotAccepted, RunTooLarge
from pyoco_server.jetstream.connection import Connection
from pyoco_server.jetstream.errors import BridgeError
from pyoco_server.kernel import Actor, Refusal, Reply, Request
from pyoco_server.model.errors import ErrorId
from pyoco_server.model.job import new_run_id
from pyoco_server.model.run import RunSnapshot
from pyoco_server.store.idempotency import IdempotencyStore
from pyoco_server.store.runs import RunStore
from pyoco_server.store.workflows import WorkflowStore

__all__ = [
    "Accepted",
    "KeyReused",
    "NewRun",
    "NotAccepted",
    "RunTooLarge",
    "Submit",
    "Submitter",
]

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Submit(Request[Accepted]):
    """Accept a run; refused with `NotAccepted`, `RunTooLarge` or `KeyReused`."""

    run: NewRun


class Submitter(Actor[Submit]):
    """Pipelines submissions, at most ``in_flight`` at a time.

    Args:
        connection: The way to JetStream.
        runs: The stored runs.
        workflows: The kept flow.yaml texts.
        keys: The stored idempotency keys.
        subject_prefix: ``pyoco.work``; a job goes to ``<prefix>.<tag>``.
        within: Seconds for queueing a job.
        in_flight: How many submissions are worked on at once; more wait in the mailbox.
    """

    def __init__(
        self,
        connection: Connection,
        runs: RunStore,
        workflows: WorkflowStore,
        keys: IdempotencyStore,
        *,
        subject_prefix: str,
        within: float = 2.0,
        in_flight: int = 256,
    ) -> None:
        self._intake = Intake(
            connection,
            runs,
            workflows,
            subject_prefix=subject_prefix,
            within=within,
            undo_soon=self._undo_soon,
        )
        self._once = OnceOnly(keys, self._intake)
        self._room = trio.CapacityLimiter(in_flight)

    async def handle(self, message: Submit) -> None:
        """Start the submission and be free for the next one."""
        reply = self.reply_to(message)
        permit = object()
        await self._room.acquire_on_behalf_of(permit)
        self.spawn(self._submit, message.run, reply, permit)

    def _undo_soon(self, snapshot: RunSnapshot) -> None:
        self.spawn(self._intake.undo, snapshot)

    async def _submit(self, run: NewRun, reply: Reply[Accepted], permit: object) -> None:
        try:
            # Whoever waits no more was told that nothing was accepted.
            if not reply.settled:
                reply.send(await self._accept(run, reply))
        except Refusal as refusal:
            reply.fail(refusal)
        except BridgeError as error:
            log.warning("run not accepted", err_id=ErrorId.NATS_UNAVAILABLE, reason=str(error))
            reply.fail(NotAccepted(str(error)))
        finally:
            self._room.release_on_behalf_of(permit)

    async def _accept(self, run: NewRun, reply: Reply[Accepted]) -> Accepted:
        if run.idempotency_key is not None:
            return await self._once.accept(run, run.idempotency_key)
        job = run.job(new_run_id(), time.time())
        self._intake.check(job)
        stored = await self._intake.store(job)
        if not reply.settled:
            await self._intake.enqueue(job, stored)
        if reply.settled:
            await self._intake.take_back(stored)
        return Accepted(job.run_id)
