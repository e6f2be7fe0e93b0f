"""Ends the runs whose job used up its deliveries, as JetStream's advisories tell."""

from __future__ import annotations

import structlog
import trio

from pyoco_server.gateway.live_runs import LiveRuns
from pyoco_server.gateway.undertaker import Undertaker, Verdict
from pyoco_server.jetstream import advisories
from pyoco_server.jetstream.advisories import MaxDeliveries
from pyoco_server.jetstream.connection import Connection
from pyoco_server.jetstream.consumer import Message, PullConsumer
from pyoco_server.jetstream.errors import BridgeError, NotFound
from pyoco_server.model.dead_letter import DeadLetterReason
from pyoco_server.store.queue import JobQueue

log = structlog.get_logger(__name__)

_LINGER_SECONDS = 5.0
_RETRY_SECONDS = 1.0
_LOOK_AGAIN_SECONDS = 2.0


def used_up(deliveries: int) -> Verdict:
    """The verdict on a run whose job was delivered so often."""
    return Verdict(
        DeadLetterReason.MAX_DELIVERIES,
        f"the job was delivered {deliveries} times without an end, as often as it may be "
        "(PYOCO_CONSUMER_MAX_DELIVER)",
    )


class ExhaustedJobs:
    """Follows the advisories; all gateways share one durable consumer of them.

    Args:
        connection: The way to JetStream.
        queue: The work queue.
        undertaker: Ends the runs.
        live: What is known of runs.
        alive_within: A run that gave a sign of life within so many seconds is left to its worker.
    """

    def __init__(
        self,
        connection: Connection,
        queue: JobQueue,
        undertaker: Undertaker,
        live: LiveRuns,
        *,
        alive_within: float,
    ) -> None:
        self._connection = connection
        self._queue = queue
        self._undertaker = undertaker
        self._live = live
        self._alive_within = alive_within
        self._consumer = PullConsumer(connection, advisories.STREAM, advisories.DURABLE)

    async def follow(self) -> None:
        """Do so for ever."""
        while True:
            try:
                for message in await self._consumer.fetch(1, expires=_LINGER_SECONDS):
                    await self._on_message(message)
            except NotFound:
                await self._ensure()
            except BridgeError as error:
                log.debug("advisories not read", reason=str(error))
                await trio.sleep(_RETRY_SECONDS)

    async def _ensure(self) -> None:
        try:
            await advisories.ensure_advisory_consumer(self._connection)
        except BridgeError as error:
            log.debug("no consumer of advisories yet", reason=str(error))
            await trio.sleep(_RETRY_SECONDS)

    async def _on_message(self, message: Message) -> None:
        advisory = advisories.decode_advisory(message.data)
        if advisory is None or await self._settled(advisory):
            await message.ack()
        else:
            await message.nak(_LOOK_AGAIN_SECONDS)

    async def _settled(self, advisory: MaxDeliveries) -> bool:
        """End the run of the message; False when it has to be looked at again."""
        if not self._live.caught_up:
            return False  # it is not known yet who is alive
        job = await self._queue.get(advisory.stream_seq)
        if job is None:
            return True
        verdict = used_up(advisory.deliveries)
        if not job.run_id:
            await self._undertaker.bury_unreadable(job, verdict)
            return True
        run = self._live.get(job.run_id)
        if run is not None and trio.current_time() - run.changed_at < self._alive_within:
            return False
        contents = await self._queue.contents()
        if any(x.run_id == job.run_id and x.sequence != job.sequence for x in contents):
            # A fresh copy was queued in its place, and the ack of this one was lost.
            await self._queue.remove(job.sequence)
            return True
        revision = None if run is None else run.revision
        return await self._undertaker.end(job.run_id, verdict, revision=revision, job=job)
