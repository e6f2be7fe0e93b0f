"""Sees to it that every run ends: finds those that nobody executes and nobody will."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import structlog
import trio

from pyoco_server.gateway.live_runs import LiveRun, LiveRuns
from pyoco_server.gateway.read_side import ReadSide
from pyoco_server.gateway.undertaker import Undertaker, Verdict
from pyoco_server.jetstream import advisories
from pyoco_server.jetstream.connection import Connection
from pyoco_server.jetstream.consumer import Message, PullConsumer
from pyoco_server.jetstream.errors import BridgeError, NotFound
from pyoco_server.kernel import Refusal
from pyoco_server.model.dead_letter import DeadLetterReason
from pyoco_server.model.run import RunStatus
from pyoco_server.settings import Settings
from pyoco_server.store.queue import JobQueue, QueuedJob
from pyoco_server.store.runs import RunStore

log = structlog.get_logger(__name__)

# The whole queue is looked through at least so often, for jobs of runs that have ended.
_FULL_LOOK_SECONDS = 900.0
# Where many runs wait, some of them are silent at all times, and looking through a long queue is costly: it
# takes one part in so many of the time, and so it does for jobs that used up their deliveries.
_REST = 20.0
_ADVISORIES = 500
_LINGER_SECONDS = 5.0
_RETRY_SECONDS = 1.0
_LOOK_AGAIN_SECONDS = 2.0


class _UsedUp(NamedTuple):
    """A job that used up its deliveries, the server's word of it, and the revision of its run, if live."""

    message: Message
    sequence: int
    run_id: str
    verdict: Verdict
    revision: int | None


class Reaper:
    """Looks every interval; several of them, one in each gateway, do not disturb each other.

    A run that its worker moves on while it is judged is not touched: the write that ends it names the
    revision that was judged.

    Args:
        reads: Who knows those that have ended; without, none of them is deleted.
    """

    def __init__(
        self,
        connection: Connection,
        settings: Settings,
        live: LiveRuns,
        runs: RunStore,
        queue: JobQueue,
        undertaker: Undertaker,
        reads: ReadSide | None = None,
    ) -> None:
        self._connection = connection
        self._live = live
        self._reads = reads
        self._runs = runs
        self._queue = queue
        self._undertaker = undertaker
        self._settings = settings
        self._epoch = -1
        self._looked_through_at = trio.current_time()
        self._rest_until = -math.inf
        self._advisories_rest_until = -math.inf
        self._stranded: dict[str, int] = {}
        self._missed: dict[str, int] = {}

    async def look(self) -> None:
        """Look at what is silent every interval, and end what has no future."""
        while True:
            # Jitter only: gateways should not all look at the same time.
            await trio.sleep(self._settings.reaper_interval_sec * random.uniform(0.8, 1.2))  # noqa: S311
            if self._connection.epoch != self._epoch:
                # NATS was away, and with it every sign of life.
                self._epoch = self._connection.epoch
                self._live.start_anew()
            if not self._live.caught_up or not self._connection.status.connected:
                continue
            try:
                await self._sweep()
                await self._expire()
            except (BridgeError, Refusal) as error:
                log.info("look for lost runs broken off", reason=str(error))

    async def _sweep(self) -> None:
        now = trio.current_time()
        orphans, waiting = await self._look_at_silent(now)
        if not orphans and now - self._looked_through_at < _FULL_LOOK_SECONDS:
            return
        if now < self._rest_until:
            return
        self._looked_through_at = now
        jobs = await self._queue.contents()
        self._rest_until = _rested(now)
        await self._remove_finished(jobs)
        queued = {job.run_id for job in jobs}
        stranded = await self._find_stranded(orphans, jobs)
        for run in orphans:
            if run.run_id not in queued:
                # Held back, its job moves within the queue when it is due, and may have been passed over.
                if run.due_at is not None and self._missed.get(run.run_id) != run.revision:
                    continue
                await self._undertaker.end(run.run_id, _lost(run), revision=run.revision)
            elif self._stranded.get(run.run_id) == run.revision and run.run_id in stranded:
                whole = await self._queue.get(stranded[run.run_id].sequence)
                verdict = _used_up(self._settings.consumer_max_deliver)
                await self._undertaker.end(run.run_id, verdict, revision=run.revision, job=whole)
            elif run.run_id not in stranded:
                run.leave_alone(now, self._settings.run_orphan_after_sec)
        for run in waiting:
            # A submission that broke off left it, and nobody was told that it was accepted.
            if run.run_id not in queued and self._missed.get(run.run_id) == run.revision:
                await self._undertaker.end(run.run_id, _lost(run), revision=run.revision)
        orphans += waiting
        # Two looks have to agree, since the queue and its consumers are not seen at the same moment.
        self._missed = {run.run_id: run.revision for run in orphans if run.run_id not in queued}
        self._stranded = {run.run_id: run.revision for run in orphans if run.run_id in stranded}

    async def _look_at_silent(self, now: float) -> tuple[list[LiveRun], list[LiveRun]]:
        """End what was cancelled; return those that should have started by now, and those that wait."""
        patience = self._settings.run_orphan_after_sec
        orphans: list[LiveRun] = []
        waiting: list[LiveRun] = []
        for run in [*self._live.silent(now, patience, 2 * self._settings.reaper_interval_sec)]:
            if run.status is RunStatus.CANCELLING:
                # Nobody is left to carry the cancel out.
                verdict = Verdict(DeadLetterReason.WORKER_CRASHED, "")
                await self._undertaker.end(run.run_id, verdict, revision=run.revision)
            elif run.due_at is None or run.due_at + patience < self._runs.now():
                orphans.append(run)
            else:
                waiting.append(run)
        return orphans, waiting

    async def _remove_finished(self, jobs: Iterable[QueuedJob]) -> None:
        """Remove the jobs of runs that have ended, whose ack was lost: nobody needs them."""
        for job in jobs:
            gone = job.run_id and self._live.get(job.run_id) is None
            if gone and await self._runs.has_ended(job.run_id):
                await self._queue.remove(job.sequence)

    async def _find_stranded(
        self, orphans: list[LiveRun], jobs: list[QueuedJob]
    ) -> dict[str, QueuedJob]:
        """Jobs that JetStream has delivered for the last time, by run.

        What was delivered, is in the stream and waits for no acknowledgement has used up its
        deliveries. Only their number can be told; so they are known when there are no more silent
        runs than that.
        """
        silent = {run.run_id for run in orphans}
        jobs = [job for job in jobs if not job.delayed]
        found: dict[str, QueuedJob] = {}
        for tag in {job.tag for job in jobs if job.run_id in silent}:
            consumer = await self._queue.consumer(tag)
            if consumer is None:
                continue
            last = consumer.delivered.stream_seq
            delivered = [job for job in jobs if job.tag == tag and job.sequence <= last]
            suspects = [job for job in delivered if job.run_id in silent]
            if 0 < len(suspects) <= len(delivered) - consumer.num_ack_pending:
                found |= {job.run_id: job for job in suspects}
        return found

    async def _expire(self) -> None:
        """Delete what ended long ago and does not go away by itself."""
        if self._settings.runs_ttl_sec <= 0 or self._reads is None:
            return
        ended = await self._reads.ended_before(self._runs.now() - self._settings.runs_ttl_sec)
        for run_id in ended:
            await self._runs.forget(run_id)
        await self._reads.drop(ended)

    # Jobs that used up their deliveries -----------------------------------------------------------------

    async def follow_advisories(self) -> None:
        """End runs whose job used up its deliveries; all gateways share one durable consumer of them."""
        consumer = PullConsumer(self._connection, advisories.STREAM, advisories.DURABLE)
        while True:
            try:
                try:
                    messages = await consumer.fetch(1, expires=_LINGER_SECONDS)
                    if messages:
                        messages += await consumer.fetch(_ADVISORIES - 1, expires=0)
                except NotFound:
                    await advisories.ensure_advisory_consumer(self._connection)
                    continue
                await self._on_advisories(messages)
            except BridgeError as error:
                log.debug("advisories not read", reason=str(error))
                await trio.sleep(_RETRY_SECONDS)

    async def _on_advisories(self, messages: Sequence[Message]) -> None:
        """Settle each, or have it come again; the queue is looked through once for all of them."""
        found = [await self._used_up_job(message) for message in messages]
        used_up = [each for each in found if each is not None]
        now = trio.current_time()
        if not used_up:
            return
        if now < self._advisories_rest_until:
            for each in used_up:
                await each.message.nak(self._advisories_rest_until - now)
            return
        sequences = {each.sequence for each in used_up}
        contents = await self._queue.contents()
        self._advisories_rest_until = _rested(now)
        queued = {job.run_id for job in contents if job.sequence not in sequences}
        for message, sequence, run_id, verdict, revision in used_up:
            settled = True
            if run_id in queued:
                # A fresh copy was queued in its place, and the ack of this one was lost.
                await self._queue.remove(sequence)
            elif (job := await self._queue.get(sequence)) is not None:
                settled = await self._undertaker.end(run_id, verdict, revision=revision, job=job)
            await (message.ack() if settled else message.nak(_LOOK_AGAIN_SECONDS))

    async def _used_up_job(self, message: Message) -> _UsedUp | None:
        """The job that an advisory tells of; None where nothing is to be done of it, or not yet."""
        advisory = advisories.decode_advisory(message.data)
        if advisory is None:
            await message.ack()
            return None
        if not self._live.caught_up:  # it is not known yet who is alive
            await message.nak(_LOOK_AGAIN_SECONDS)
            return None
        job = await self._queue.get(advisory.stream_seq)
        verdict = _used_up(advisory.deliveries)
        if job is not None and not job.run_id:
            await self._undertaker.bury_unreadable(job, verdict)
        if job is None or not job.run_id:
            await message.ack()
            return None
        run = self._live.get(job.run_id)
        patience = 3 * self._settings.run_heartbeat_interval_sec
        if run is not None and trio.current_time() - run.changed_at < patience:
            await message.nak(_LOOK_AGAIN_SECONDS)
            return None
        revision = None if run is None else run.revision
        return _UsedUp(message, job.sequence, job.run_id, verdict, revision)


def _rested(began: float) -> float:
    """When a queue that was looked through from then to now may be looked through again."""
    now = trio.current_time()
    return now + _REST * (now - began)


def _lost(run: LiveRun) -> Verdict:
    if run.status is RunStatus.PENDING:
        return Verdict(
            DeadLetterReason.JOB_LOST, "the run waits, but its job is not in the queue any more"
        )
    return Verdict(
        DeadLetterReason.WORKER_CRASHED,
        "its worker gave no sign of life any more, and its job is not in the queue",
    )


def _used_up(deliveries: int) -> Verdict:
    """The verdict on a run whose job was delivered so often."""
    return Verdict(
        DeadLetterReason.MAX_DELIVERIES,
        f"the job was delivered {deliveries} times without an end, as often as it may be "
        "(PYOCO_CONSUMER_MAX_DELIVER)",
    )
