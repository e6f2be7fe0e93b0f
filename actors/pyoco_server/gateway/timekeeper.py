"""Does what is to be done of runs at a certain time: ends those that are too old to start, marks late ones.

The server holds back what is to start later, and queues it in time. Here is what follows from a run's times
besides; it is known from the runs bucket, so that every gateway does it, the bucket decides which was first,
and one that was away does it when it is back. By the server's clock, whatever this machine's says.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import structlog
import trio
from msgspec.structs import replace

from pyoco_server.gateway.live_runs import LiveRun, LiveRuns
from pyoco_server.gateway.undertaker import Undertaker, Verdict
from pyoco_server.gateway.waiting_runs import find_job, hold_back
from pyoco_server.jetstream.errors import BridgeError, WrongRevision
from pyoco_server.jetstream.together import for_each
from pyoco_server.kernel import Refusal
from pyoco_server.model.dead_letter import DeadLetterReason
from pyoco_server.model.punctuality import (
    expired_text,
    has_started,
    is_expired,
    waits_until,
    with_lateness,
)
from pyoco_server.model.run import SnapshotTooLarge
from pyoco_server.store.queue import JobQueue, QueuedJob
from pyoco_server.store.runs import RunStore, StoredRun

log = structlog.get_logger(__name__)

_MOST: Final = 1000
_AT_ONCE: Final = 32
# Of more runs than these it is cheaper to look through the queue than to look for each job.
_FEW: Final = 16
_LONGEST_SLEEP_SECONDS: Final = 60.0
_RETRY_SECONDS: Final = 1.0


class Timekeeper:
    """Sleeps until something is to be done; several of them, one a gateway, do not disturb each other."""

    def __init__(
        self, live: LiveRuns, runs: RunStore, queue: JobQueue, undertaker: Undertaker
    ) -> None:
        self._live = live
        self._runs = runs
        self._queue = queue
        self._undertaker = undertaker

    async def keep(self) -> None:
        """Do so for as long as it is not cancelled."""
        while True:
            wait = self._live.next_moment - self._runs.now()
            if wait > 0:
                # Not for longer: the server's clock may be set.
                with trio.move_on_after(min(wait, _LONGEST_SLEEP_SECONDS)):
                    await self._live.sooner()
                continue
            due: list[LiveRun] = []
            try:
                await self._runs.learn_time()
                taken_at = self._runs.now()
                old, waiting = self._live.take_due(taken_at, _MOST)
                due = [*old, *waiting]
                await self._see_to([*old, *await self._held_back(waiting)], taken_at)
            except (BridgeError, Refusal) as error:
                log.info("times of runs not kept for the moment", reason=str(error))
                self._live.see_again(due, self._runs.now() + _RETRY_SECONDS)
                await trio.sleep(_RETRY_SECONDS)

    async def _held_back(self, waiting: Sequence[LiveRun]) -> list[LiveRun]:
        """Those of the runs that may not be in the queue; the others wait for a worker."""
        if len(waiting) <= _FEW:
            return [*waiting]
        held_back = await self._queue.held_back_runs()
        return [run for run in waiting if run.run_id in held_back]

    async def _see_to(self, due: Sequence[LiveRun], taken_at: float) -> None:
        """See to runs whose time had come at ``taken_at``.

        Raises:
            BridgeError: NATS refused or could not be asked; some of them may be seen to.
        """
        expired: list[StoredRun] = []

        async def see_to(run: LiveRun) -> None:
            if (ended := await self._see_to_one(run, taken_at)) is not None:
                expired.append(ended)

        try:
            await for_each(due, see_to, _AT_ONCE)
        except BridgeError:
            await self._remove_jobs(expired)
            raise
        await self._remove_jobs(expired)

    async def _see_to_one(self, live: LiveRun, taken_at: float) -> StoredRun | None:
        """Do what is to be done of a run; return it as it was where it has expired."""
        stored = await self._runs.find(live.run_id)
        if stored is None:
            return None
        # The server's clock may have been put back meanwhile; nothing would remind of the run once more.
        run, now = stored.snapshot, max(self._runs.now(), taken_at)
        if is_expired(run, now):
            verdict = Verdict(DeadLetterReason.EXPIRED, expired_text(run))
            ended = await self._undertaker.end(run.run_id, verdict, revision=stored.revision)
            return stored if ended else None
        late = with_lateness(run, now)
        if late is not run:
            try:
                await self._runs.replace(stored, replace(late, updated_at=now))
            except (WrongRevision, SnapshotTooLarge) as error:
                # Whoever was faster has marked it, or its change reminds of it once more.
                log.debug("lateness not stored", run_id=run.run_id, reason=str(error))
        await self._hurry(stored, now)
        return None

    async def _hurry(self, stored: StoredRun, now: float) -> None:
        """Queue the job of a run whose time has come, and which is held back for another one."""
        run = stored.snapshot
        until = waits_until(run)
        if has_started(run) or until is None or until > now:
            return
        job = await self._queue.find_delayed(run.run_id, run.tag or "")
        if job is not None:
            await hold_back(self._queue, job, run)

    async def _remove_jobs(self, expired: Sequence[StoredRun]) -> None:
        """Take the jobs of runs that have expired off the queue; what is missed, a worker drops."""
        jobs: list[QueuedJob | None]
        if len(expired) <= _FEW:
            jobs = [await find_job(self._queue, stored) for stored in expired]
        else:
            run_ids = {stored.snapshot.run_id for stored in expired}
            jobs = [job for job in await self._queue.contents() if job.run_id in run_ids]
        for job in jobs:
            if job is not None:
                await self._queue.remove(job.sequence)
