"""What happens to a job once the end of its attempt is stored: acknowledged, given back, or buried."""

from __future__ import annotations

from typing import assert_never

import structlog
import trio

from pyoco_server.jetstream.consumer import Message
from pyoco_server.jetstream.errors import BridgeError
from pyoco_server.model import decisions, life
from pyoco_server.model.dead_letter import DeadLetterReason
from pyoco_server.model.errors import ErrorId
from pyoco_server.model.job import Job
from pyoco_server.model.run import RunSnapshot, RunStatus
from pyoco_server.settings import Settings
from pyoco_server.store.dead_letters import DeadLetterStore, letter_id
from pyoco_server.store.queue import JobQueue
from pyoco_server.worker.attempt import Attempt

log = structlog.get_logger(__name__)

# How long a job stays away that a worker gives back because something failed for a moment.
NAK_DELAY_SECONDS = 2.0
_HOLD_SECONDS = 1.0
# The server looks for messages that are due every quarter of a second.
_BRIEF_SECONDS = 1.0
_REASONS = {reason.value: reason for reason in DeadLetterReason}


class Settler:
    """Settles jobs.

    Args:
        settings: How often JetStream delivers a job, and whether a flow that raises leaves a dead letter.
    """

    def __init__(
        self, queue: JobQueue, dead_letters: DeadLetterStore, settings: Settings, worker_id: str
    ) -> None:
        self._queue = queue
        self._dead_letters = dead_letters
        self._settings = settings
        self._worker_id = worker_id

    async def settle(self, attempt: Attempt, decision: decisions.Finish) -> None:
        """Do with the job of an attempt what its stored end asks for."""
        job, delivery = attempt.job, attempt.delivery
        match decision:
            case decisions.Finished(snapshot):
                if snapshot.status is RunStatus.FAILED:
                    await self.bury(job, snapshot)
                delivery.ack_soon()  # unheard, it comes again and meets a terminal run
            case decisions.RetryLater(snapshot, wait):
                log.info(
                    "attempt over, another follows",
                    run_id=job.run_id,
                    attempt=snapshot.attempt,
                    reason=snapshot.reason,
                    wait_sec=wait,
                )
                waiting = life.job_of_waiting(job, snapshot)
                held_back = snapshot.next_attempt_at is not None
                await self.give_back(waiting, delivery, wait, held_back=held_back)
            case decisions.AlreadyTerminal():
                delivery.ack_soon()
            case decisions.Superseded(snapshot):
                log.warning(
                    "run lost to another attempt",
                    run_id=job.run_id,
                    attempt=attempt.claim.attempt,
                    latest=snapshot.attempt,
                )
            case _:
                assert_never(decision)

    async def give_back(
        self, job: Job, delivery: Message, wait_sec: float, *, held_back: bool = False
    ) -> None:
        """Let the queue deliver the job again after a wait; unheard, it does so after the ack wait.

        A job that JetStream would not deliver again is replaced by a fresh copy; that one comes at once,
        and whoever gets it meets the wait in the snapshot. It is held for a moment, or where each delivery
        is the last one, copies would follow each other all the while.

        A run that waits for its time is ``held_back``: it holds no delivery, of which its tag has so many
        only; the server queues its job again, where it can do that.
        """
        with trio.move_on_after(5.0):
            try:
                if (
                    held_back
                    and wait_sec >= _BRIEF_SECONDS
                    and await self._queue.put_later(
                        job, wait_sec, next_attempt_at=job.next_attempt_at
                    )
                ):
                    await delivery.ack()
                elif 0 < self._settings.consumer_max_deliver <= delivery.num_delivered:
                    await trio.sleep(min(wait_sec, _HOLD_SECONDS))
                    await self._queue.put_again(job, delivery.stream_sequence)
                    await delivery.ack()
                else:
                    await delivery.nak(wait_sec)
            except BridgeError as error:
                log.info("job not given back, it comes again", reason=str(error))

    async def bury(self, job: Job, run: RunSnapshot) -> None:
        """Tell of a run that FAILED: in the log, and as a dead letter."""
        log.error(
            "execution failed",
            err_id=ErrorId.EXECUTION_FAILED,
            run_id=job.run_id,
            flow_name=job.flow_name,
            tag=job.tag,
            attempt=run.attempt,
            reason=run.reason,
            # Where it failed is in the run; a crash leaves a whole dump.
            error=(run.error or "").partition("\n")[0],
        )
        await self.write_letter(job, run)

    async def write_letter(self, job: Job, run: RunSnapshot) -> None:
        """Have one dead letter of a run that FAILED; a letter that is there already stays the only one."""
        reason = _REASONS.get(run.reason or "", DeadLetterReason.EXECUTION_ERROR)
        if (
            reason is not DeadLetterReason.EXECUTION_ERROR
            or self._settings.dlq_publish_execution_error
        ):
            await self._dead_letters.write_for(
                job,
                reason,
                run.error or "",
                worker_id=run.worker_id or self._worker_id,
                msg_id=letter_id(run, reason),
            )


async def put_off(delivery: Message, wait_sec: float) -> None:
    """Have a delivery that is not needed now come again after a wait; unheard, it does so in any case."""
    try:
        await delivery.nak(wait_sec)
    except BridgeError as error:
        log.debug("job not put off, it comes again", reason=str(error))
