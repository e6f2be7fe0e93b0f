"""How an attempt is stopped (asked, terminated, killed), and what is said of it then."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

import structlog
import trio

from pyoco_server.model.dead_letter import DeadLetterReason
from pyoco_server.model.errors import ErrorId
from pyoco_server.model.run import RunStatus
from pyoco_server.worker.attempt import Attempt, Ending, Stopping
from pyoco_server.worker.child import SlotChild, Spawn
from pyoco_server.worker.runner.handle import Exited
from pyoco_server.worker.runner.protocol import CancelRun

log = structlog.get_logger(__name__)

TERMINATE_SECONDS: Final = 2.0
"""What code that handles SIGTERM has for that before it is killed."""


@dataclass(frozen=True, slots=True)
class TimeUp:
    """To the slot: the attempt had its time.

    Attributes:
        attempt: Which attempt.
        after: What it had the time for; ``NO`` for its whole execution (``timeout_sec``).
    """

    attempt: Attempt
    after: Stopping


async def _wait(time_up: TimeUp, seconds: float, tell: Callable[[TimeUp], Awaitable[None]]) -> None:
    """Tell when the time is up, unless the attempt is over before."""
    with trio.move_on_after(seconds):
        await time_up.attempt.over.wait()
        return
    await tell(time_up)


class Stopper:
    """Takes an attempt from step to step until it ends; each step has its time.

    Args:
        child: What executes it.
        grace: Seconds that a flow has after it was asked.
        spawn: Runs a task beside the slot.
        tell: Has `on_time_up` called.
    """

    def __init__(
        self,
        child: SlotChild,
        grace: float,
        spawn: Spawn,
        tell: Callable[[TimeUp], Awaitable[None]],
    ) -> None:
        self._child = child
        self._grace = grace
        self._spawn = spawn
        self._tell = tell

    def limit(self, attempt: Attempt) -> None:
        """Stop an attempt that begins now when its ``timeout_sec`` is over, if it has one."""
        if attempt.claim.timeout_sec is not None:
            self._wait(attempt, Stopping.NO, attempt.claim.timeout_sec)

    def ask(self, attempt: Attempt) -> None:
        """A cancel is stored: ask the flow at once, and be patient for the grace period."""
        if attempt.ending is not None:
            return
        if attempt.saving is not None:
            attempt.saving.cancel()
            return
        if attempt.stopping is not Stopping.NO:
            return
        attempt.stopping = Stopping.ASKED
        self._wait(attempt, Stopping.ASKED, self._grace)
        self._child.tell(CancelRun(run_id=attempt.run_id), self._spawn)

    def on_time_up(self, time_up: TimeUp) -> None:
        """Go one step further, unless the flow has ended or a step was taken meanwhile."""
        attempt = time_up.attempt
        ended = attempt.concluded or attempt.over.is_set()
        if ended or attempt.stopping is not time_up.after:
            return
        if time_up.after is Stopping.TERMINATED:
            attempt.stopping = Stopping.KILLED
            self._child.kill()
            return
        if time_up.after is Stopping.ASKED:
            log.warning(
                "cancel did not converge within the grace period, terminating the child",
                err_id=ErrorId.CANCEL_NOT_CONVERGED,
                run_id=attempt.run_id,
            )
        else:
            attempt.timed_out = True
            log.warning("attempt timed out, terminating the child", run_id=attempt.run_id)
        attempt.stopping = Stopping.TERMINATED
        self._wait(attempt, Stopping.TERMINATED, TERMINATE_SECONDS)
        self._child.terminate()

    def _wait(self, attempt: Attempt, after: Stopping, seconds: float) -> None:
        self._spawn(_wait, TimeUp(attempt, after), seconds, self._tell)

    def ending_of_finished(self, attempt: Attempt, reported: Ending) -> Ending:
        """The end of an attempt whose flow said how it ended, after a signal perhaps."""
        if attempt.stopping < Stopping.TERMINATED or reported.status is RunStatus.COMPLETED:
            return reported
        return _stopped(attempt, self._grace, reported.at)

    def ending_of_exit(self, attempt: Attempt, exited: Exited) -> Ending:
        """The end of an attempt whose child process ended."""
        now = time.time()
        match attempt.stopping:
            case Stopping.NO:
                reason = DeadLetterReason.WORKER_CRASHED
                return Ending(RunStatus.FAILED, now, f"{reason}: {exited.text}", reason)
            case Stopping.ASKED:
                return Ending(RunStatus.CANCELLED, now, exited.text)
            case Stopping.TERMINATED | Stopping.KILLED:
                return _stopped(attempt, self._grace, now)


def _stopped(attempt: Attempt, grace: float, now: float) -> Ending:
    killed = attempt.stopping is Stopping.KILLED
    how = "killed (SIGKILL)" if killed else "terminated (SIGTERM)"
    if attempt.timed_out:
        limit = attempt.claim.timeout_sec or 0.0
        error = f"timeout: the attempt did not end within {limit:g} s and was {how}"
        return Ending(RunStatus.FAILED, now, error, DeadLetterReason.TIMEOUT)
    error = f"{how}: the flow did not end within {grace:g} s of its cancel"
    return Ending(RunStatus.CANCELLED, now, error)
