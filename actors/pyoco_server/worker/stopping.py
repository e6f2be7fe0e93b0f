"""How an attempt is stopped (asked, terminated, killed), and what is said of it then."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

import trio

from pyoco_server.model.dead_letter import DeadLetterReason
from pyoco_server.model.run import RunStatus
from pyoco_server.worker.attempt import Attempt, Ending, Stopping
from pyoco_server.worker.runner.handle import Exited

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


async def wait(time_up: TimeUp, seconds: float, tell: Callable[[TimeUp], Awaitable[None]]) -> None:
    """Tell when the time is up, unless the attempt is over before."""
    with trio.move_on_after(seconds):
        await time_up.attempt.over.wait()
        return
    await tell(time_up)


def ending_of_finished(attempt: Attempt, reported: Ending, grace: float) -> Ending:
    """The end of an attempt whose flow said how it ended, after a signal perhaps.

    Args:
        attempt: The attempt.
        reported: What the flow said.
        grace: Seconds that a cancelled flow has.
    """
    if attempt.stopping < Stopping.TERMINATED or reported.status is RunStatus.COMPLETED:
        return reported
    return _stopped(attempt, grace, reported.at)


def ending_of_exit(attempt: Attempt, exited: Exited, grace: float) -> Ending:
    """The end of an attempt whose child process ended.

    Args:
        attempt: The attempt.
        exited: How the process ended.
        grace: Seconds that a cancelled flow has.
    """
    now = time.time()
    match attempt.stopping:
        case Stopping.NO:
            reason = DeadLetterReason.WORKER_CRASHED
            return Ending(RunStatus.FAILED, now, f"{reason}: {exited.text}", reason)
        case Stopping.ASKED:
            return Ending(RunStatus.CANCELLED, now, exited.text)
        case Stopping.TERMINATED | Stopping.KILLED:
            return _stopped(attempt, grace, now)


def _stopped(attempt: Attempt, grace: float, now: float) -> Ending:
    killed = attempt.stopping is Stopping.KILLED
    how = "killed (SIGKILL)" if killed else "terminated (SIGTERM)"
    if attempt.timed_out:
        limit = attempt.claim.timeout_sec or 0.0
        error = f"timeout: the attempt did not end within {limit:g} s and was {how}"
        return Ending(RunStatus.FAILED, now, error, DeadLetterReason.TIMEOUT)
    error = f"{how}: the flow did not end within {grace:g} s of its cancel"
    return Ending(RunStatus.CANCELLED, now, error)
