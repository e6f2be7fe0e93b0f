"""Sees to it that every run ends: finds those that nobody executes and nobody will."""

from __future__ import annotations

import math
import random
import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import structlog
import trio

from pyoco_server.gateway.exhausted_jobs import ExhaustedJobs, used_up
from pyoco_server.gateway.live_runs import LiveRun, LiveRuns
from pyoco_server.gateway.undertaker import Undertaker, Verdict
from pyoco_server.jetstream.connection import Connection
from pyoco_server.jetstream.errors import BridgeError
from pyoco_server.kernel import Actor, Refusal
from pyoco_server.model.dead_letter import DeadLetterReason
from pyoco_server.model.run import RunStatus
from pyoco_server.settings import Settings
from pyoco_server.store.queue import JobQueue, QueuedJob, TagQueue
from pyoco_server.store.runs import RunStore

log = structlog.get_logger(__name__)

# The whole queue is looked through at least so often, for jobs of runs that have ended.
_FULL_LOOK_SECONDS = 900.0
# Where many runs wait, some of them are silent at all times, and looking through a long queue is costly: it
# takes one part in so many of the time.
_REST = 20.0


@dataclass(frozen=True, slots=True)
class ReaperSettings:
    """When the reaper acts. Durations are seconds.

    Attributes:
        interval: Between two looks.
        orphan_after: Without a sign of life, a run is looked at.
        alive_within: With a sign of life so lately, a run is left to its worker in any case.
        runs_ttl: How long an ended run is kept; 0 for ever.
        max_deliver: For the text of a dead letter.
    """

    interval: float
    orphan_after: float
    alive_within: float
    runs_ttl: float
    max_deliver: int

    @classmethod
    def of(cls, settings: Settings) -> ReaperSettings:
        """What the settings say."""
        return cls(
            interval=settings.reaper_interval_sec,
            orphan_after=settings.run_orphan_after_sec,
            alive_within=3 * settings.run_heartbeat_interval_sec,
            runs_ttl=settings.runs_ttl_sec,
            max_deliver=settings.consumer_max_deliver,
        )


class Retention(Protocol):
    """Who knows the runs that have ended."""

    async def ended_before(self, moment: float) -> list[str]:
        """Some of those that ended before that, in unix seconds, and do not go away by themselves."""
        ...

    async def drop(self, run_ids: list[str]) -> None:
        """They are not there any more."""
        ...


@dataclass(frozen=True, slots=True)
class Sweep:
    """Look now."""


class Reaper(Actor[Sweep]):
    """Looks every interval; several of them, one in each gateway, do not disturb each other.

    Without a ``retention`` it deletes none.

    A run that its worker moves on while it is judged is not touched: the write that ends it names the
    revision that was judged.
    """

    def __init__(
        self,
        connection: Connection,
        live: LiveRuns,
        runs: RunStore,
        queue: JobQueue,
        undertaker: Undertaker,
        settings: ReaperSettings,
        retention: Retention | None = None,
    ) -> None:
        self._connection = connection
        self._live = live
        self._retention = retention
        self._runs = runs
        self._queue = queue
        self._undertaker = undertaker
        self._settings = settings
        self._exhausted = ExhaustedJobs(
            connection, queue, undertaker, live, alive_within=settings.alive_within
        )
        self._epoch = -1
        self._looked_through_at = trio.current_time()
        self._rest_until = -math.inf
        self._stranded: dict[str, int] = {}

    async def on_start(self) -> None:
        """Begin to follow the advisories, and to look."""
        self.spawn(self._exhausted.follow)
        self.spawn(self._tick)

    async def _tick(self) -> None:
        while True:
            # Jitter only: gateways should not all look at the same time.
            await trio.sleep(self._settings.interval * random.uniform(0.8, 1.2))  # noqa: S311
            await self.me.tell(Sweep())

    async def handle(self, message: Sweep) -> None:  # noqa: ARG002 - there is one kind of message
        """Look at what is silent, and end what has no future."""
        if self._connection.epoch != self._epoch:
            # NATS was away, and with it every sign of life.
            self._epoch = self._connection.epoch
            self._live.start_anew()
        if not self._live.caught_up or not self._connection.status.connected:
            return
        try:
            await self._sweep()
            await self._expire()
        except (BridgeError, Refusal) as error:
            log.info("look for lost runs broken off", reason=str(error))

    async def _sweep(self) -> None:
        now = trio.current_time()
        silent = list(
            self._live.silent(now, self._settings.orphan_after, 2 * self._settings.interval)
        )
        orphans: list[LiveRun] = []
        for run in silent:
            if run.status is RunStatus.CANCELLING:
                await self._end_cancelled(run)
            elif run.due_at is None or run.due_at + self._settings.orphan_after < time.time():
                orphans.append(run)
        if not orphans and now - self._looked_through_at < _FULL_LOOK_SECONDS:
            return
        if now < self._rest_until:
            return
        self._looked_through_at = now
        jobs = await self._queue.contents()
        ended = trio.current_time()
        self._rest_until = ended + _REST * (ended - now)
        await self._remove_finished(jobs)
        of_run = defaultdict(list)
        for job in jobs:
            of_run[job.run_id].append(job)
        stranded = await self._find_stranded(orphans, jobs)
        for run in orphans:
            if run.run_id not in of_run:
                await self._undertaker.end(run.run_id, _lost(run), revision=run.revision)
            elif self._stranded.get(run.run_id) == run.revision and run.run_id in stranded:
                whole = await self._queue.get(stranded[run.run_id].sequence)
                verdict = used_up(self._settings.max_deliver)
                await self._undertaker.end(run.run_id, verdict, revision=run.revision, job=whole)
            elif run.run_id not in stranded:
                run.leave_alone(now, self._settings.orphan_after)
        # Two looks have to agree, since the queue and its consumers are not seen at the same moment.
        self._stranded = {run.run_id: run.revision for run in orphans if run.run_id in stranded}

    async def _end_cancelled(self, run: LiveRun) -> None:
        """A cancel without anybody left to carry it out."""
        verdict = Verdict(DeadLetterReason.WORKER_CRASHED, "")
        await self._undertaker.end(run.run_id, verdict, revision=run.revision)

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
        found: dict[str, QueuedJob] = {}
        for tag in {job.tag for job in jobs if job.run_id in silent}:
            state: TagQueue | None = await self._queue.tag_state(tag)
            if state is None:
                continue
            delivered = [job for job in jobs if job.tag == tag and job.sequence <= state.delivered]
            suspects = [job for job in delivered if job.run_id in silent]
            if 0 < len(suspects) <= len(delivered) - state.awaiting_ack:
                found |= {job.run_id: job for job in suspects}
        return found

    async def _expire(self) -> None:
        """Delete what ended long ago and does not go away by itself."""
        if self._settings.runs_ttl <= 0 or self._retention is None:
            return
        ended = await self._retention.ended_before(time.time() - self._settings.runs_ttl)
        for run_id in ended:
            await self._runs.forget(run_id)
        await self._retention.drop(ended)


def _lost(run: LiveRun) -> Verdict:
    if run.status is RunStatus.PENDING:
        return Verdict(
            DeadLetterReason.JOB_LOST, "the run waits, but its job is not in the queue any more"
        )
    return Verdict(
        DeadLetterReason.WORKER_CRASHED,
        "its worker gave no sign of life any more, and its job is not in the queue",
    )
