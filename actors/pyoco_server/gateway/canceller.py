"""Carries out cancel requests: recorded with a compare-and-set, then pushed to the worker."""

from __future__ import annotations

import time
from dataclasses import dataclass

import structlog

from pyoco_server.jetstream.connection import Connection
from pyoco_server.jetstream.errors import BridgeError
from pyoco_server.kernel import Actor, Refusal, Reply, Request
from pyoco_server.model import life
from pyoco_server.model.run import RunSnapshot, RunStatus
from pyoco_server.store.control import CancelRun, control_subject, encode_control
from pyoco_server.store.runs import RunStore

log = structlog.get_logger(__name__)


class CancelNotStored(Refusal):
    """NATS could not be asked; the request is not recorded."""


@dataclass(frozen=True, slots=True)
class Cancel(Request[RunSnapshot]):
    """Cancel a run; answered with the snapshot as it then is, CANCELLING or terminal.

    Refused with `RunNotFound` or `CancelNotStored`.

    Attributes:
        run_id: The run.
        by: Who asks, such as ``api_key:<key_id>``.
        reason: Why, for people.
        tenant_id: Whose runs the asker may see; None for all.
    """

    run_id: str
    by: str | None = None
    reason: str | None = None


class Canceller(Actor[Cancel]):
    """Records requests one after the other in tasks of their own; the bucket decides races."""

    def __init__(self, connection: Connection, runs: RunStore) -> None:
        self._connection = connection
        self._runs = runs

    async def handle(self, message: Cancel) -> None:
        """Start the request and be free for the next one."""
        self.spawn(self._cancel, message, self.reply_to(message))

    async def _cancel(self, request: Cancel, reply: Reply[RunSnapshot]) -> None:
        try:
            reply.send(await self._record(request))
        except Refusal as refusal:
            reply.fail(refusal)
        except BridgeError as error:
            reply.fail(CancelNotStored(str(error)))

    async def _record(self, request: Cancel) -> RunSnapshot:
        def rule(snapshot: RunSnapshot) -> tuple[RunSnapshot | None, RunStatus]:
            outcome = life.request_cancel(
                snapshot, by=request.by, reason=request.reason, now=time.time()
            )
            match outcome:
                case life.CancelRequested(changed):
                    return changed, snapshot.status
                case life.AlreadyTerminal():
                    return None, snapshot.status

        stored, before = await self._runs.change(request.run_id, rule)
        snapshot = stored.snapshot
        if snapshot.status is RunStatus.CANCELLING:
            if before is RunStatus.PENDING:
                self.spawn(self._end_unclaimed, request.run_id)
            elif snapshot.worker_instance_id is not None:
                await self._push(snapshot.run_id, snapshot.worker_instance_id)
        return snapshot

    async def _push(self, run_id: str, instance_id: str) -> None:
        """Tell the worker at once; should this get lost, its next write meets the request."""
        try:
            await self._connection.publish(
                control_subject(instance_id), encode_control(CancelRun(run_id=run_id))
            )
        except BridgeError as error:
            log.info("cancel not pushed", run_id=run_id, reason=str(error))

    async def _end_unclaimed(self, run_id: str) -> None:
        """A run that no worker had claimed ends here; its job is dropped when a worker meets it."""

        def rule(snapshot: RunSnapshot) -> tuple[RunSnapshot | None, None]:
            if snapshot.status is not RunStatus.CANCELLING or snapshot.attempt > 0:
                return None, None
            ended = life.abandon(snapshot, reason="cancelled", error="", now=time.time())
            return ended.snapshot, None

        try:
            await self._runs.change(run_id, rule)
        except (BridgeError, Refusal) as error:
            # The worker that meets the job ends the run instead.
            log.info("cancelled run not ended yet", run_id=run_id, reason=str(error))
