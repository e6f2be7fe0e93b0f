"""Writes what becomes of an attempt, in a task of its own: nothing that the slot waits for delays it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeAlias

import structlog
import trio

from pyoco_server.jetstream.errors import BridgeError
from pyoco_server.model import life
from pyoco_server.model.errors import ErrorId
from pyoco_server.model.run import RunStatus, SnapshotTooLarge, UnreadableSnapshot
from pyoco_server.worker.attempt import Attempt, Ending
from pyoco_server.worker.messages import CancelAttempt

log = structlog.get_logger(__name__)

# Changes of tasks are written together: a flow of many short tasks would else write more than it works.
_GATHER_SECONDS = 0.05
_RETRY_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Recorded:
    """Recorder to slot: the end is stored, or the claim is lost; nothing more is to be written."""

    attempt: Attempt
    decision: life.Finish


Observation: TypeAlias = CancelAttempt | Recorded
"""What the slot is told."""


async def keep_lease(attempt: Attempt, interval: float) -> None:
    """Keep the job ours until the attempt is over.

    Args:
        attempt: Whose job.
        interval: Seconds between two signs of life.
    """
    while True:
        with trio.move_on_after(interval):
            await attempt.over.wait()
            return
        try:
            await attempt.delivery.in_progress()
        except BridgeError as error:
            log.warning(
                "in-progress ack failed",
                err_id=ErrorId.IN_PROGRESS_ACK_FAILED,
                run_id=attempt.run_id,
                reason=str(error),
            )


async def record(
    attempt: Attempt, interval: float, tell: Callable[[Observation], Awaitable[None]]
) -> None:
    """Write the attempt's progress as it comes, a heartbeat each ``interval`` seconds, and its end.

    Where NATS is away, it goes on trying.
    """
    cancel_told = False
    while attempt.ending is None:
        with trio.move_on_after(interval):
            await attempt.changed.wait()
            with trio.move_on_after(_GATHER_SECONDS):
                await attempt.ended.wait()
        if attempt.ending is not None:
            break
        if not await _progress(attempt):
            await tell(Recorded(attempt, life.Superseded(attempt.stored.snapshot)))
            return
        if attempt.cancelling and not cancel_told:
            cancel_told = True
            await tell(CancelAttempt(attempt.run_id))
    assert attempt.ending is not None
    await tell(Recorded(attempt, await _end(attempt, attempt.ending)))


async def _progress(attempt: Attempt) -> bool:
    """Whether the claim still holds, as far as can be told."""
    try:
        return await attempt.write_progress()
    except BridgeError as error:
        log.info("progress not written yet", run_id=attempt.run_id, reason=str(error))
    except SnapshotTooLarge as error:
        _too_large(attempt, error)
    except UnreadableSnapshot as error:
        log.warning("snapshot overwritten by others", run_id=attempt.run_id, reason=str(error))
        return False
    return True


async def _end(attempt: Attempt, ending: Ending) -> life.Finish:
    while True:
        try:
            return await attempt.write_end(ending)
        except BridgeError as error:
            log.warning(
                "terminal state not recorded yet",
                err_id=ErrorId.TERMINAL_STATE_NOT_RECORDED,
                run_id=attempt.run_id,
                reason=str(error),
            )
            await trio.sleep(_RETRY_SECONDS)
        except SnapshotTooLarge as error:
            _too_large(attempt, error)
            ending = Ending(RunStatus.FAILED, ending.at, str(error), "snapshot_too_large")
        except UnreadableSnapshot as error:
            log.warning("snapshot overwritten by others", run_id=attempt.run_id, reason=str(error))
            return life.Superseded(attempt.stored.snapshot)


def _too_large(attempt: Attempt, error: SnapshotTooLarge) -> None:
    """Give up the tasks: the run must be able to end, and to show that it is alive."""
    log.warning(
        "snapshot too large, its tasks are left out",
        err_id=ErrorId.SNAPSHOT_TOO_LARGE,
        run_id=attempt.run_id,
        reason=str(error),
    )
    attempt.tasks, attempt.records = {}, {}
