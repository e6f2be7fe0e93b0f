"""Writes what becomes of an attempt, in a task of its own: nothing that the slot waits for delays it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeAlias

import structlog
import trio

from pyoco_server.jetstream.connection import Connection
from pyoco_server.jetstream.errors import BridgeError
from pyoco_server.model import life
from pyoco_server.model.errors import ErrorId
from pyoco_server.model.run import RunStatus, SnapshotTooLarge, UnreadableSnapshot
from pyoco_server.worker.attempt import Attempt, Ending
from pyoco_server.worker.messages import CancelAttempt

log = structlog.get_logger(__name__)

# Changes of tasks are written together: a flow of many short tasks would else write more than it works.
_GATHER_SECONDS = 0.05
# How long a write waits that failed: short at first and after each reconnect, longer each time.
_FIRST_RETRY_SECONDS = 0.05
_RETRY_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Recorded:
    """Recorder to slot: the end is stored, or the claim is lost; nothing more is to be written."""

    attempt: Attempt
    decision: life.Finish


Observation: TypeAlias = CancelAttempt | Recorded
"""What the slot is told."""


async def keep_lease(attempt: Attempt, interval: float, connection: Connection) -> None:
    """Keep the job ours until the attempt is over.

    Args:
        attempt: Whose job.
        interval: Seconds between two signs of life; there is one at each reconnect as well.
        connection: The way to NATS.
    """
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_show_life, attempt, interval, connection)
        await attempt.over.wait()
        nursery.cancel_scope.cancel()


async def _show_life(attempt: Attempt, interval: float, connection: Connection) -> None:
    epoch = connection.epoch
    while True:
        await _reconnected(connection, epoch, within=interval)
        epoch = connection.epoch
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
    attempt: Attempt,
    interval: float,
    tell: Callable[[Observation], Awaitable[None]],
    connection: Connection,
) -> None:
    """Write the attempt's progress as it comes, a heartbeat each ``interval`` seconds, and its end.

    Where NATS is away, it goes on trying, and writes the end as soon as NATS is back.
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
    await tell(Recorded(attempt, await _end(attempt, attempt.ending, connection)))


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


async def _end(attempt: Attempt, ending: Ending, connection: Connection) -> life.Finish:
    delay = _FIRST_RETRY_SECONDS
    tasks_left_out = False
    while True:
        epoch = connection.epoch
        try:
            return await attempt.write_end(ending)
        except BridgeError as error:
            log.warning(
                "terminal state not recorded yet",
                err_id=ErrorId.TERMINAL_STATE_NOT_RECORDED,
                run_id=attempt.run_id,
                reason=str(error),
            )
            back = await _reconnected(connection, epoch, within=delay)
            delay = _FIRST_RETRY_SECONDS if back else min(delay * 2, _RETRY_SECONDS)
        except SnapshotTooLarge as error:
            if tasks_left_out:
                log.exception("the end of a run cannot be stored", run_id=attempt.run_id)
                return life.Superseded(attempt.stored.snapshot)
            tasks_left_out = True
            _too_large(attempt, error)
            ending = Ending(RunStatus.FAILED, ending.at, str(error), "snapshot_too_large")
        except UnreadableSnapshot as error:
            log.warning("snapshot overwritten by others", run_id=attempt.run_id, reason=str(error))
            return life.Superseded(attempt.stored.snapshot)


async def _reconnected(connection: Connection, epoch: int, *, within: float) -> bool:
    """Wait for a later connection than that of ``epoch``; return whether it came within so many seconds."""
    with trio.move_on_after(within):
        while connection.epoch == epoch:
            await connection.changed()
    return connection.epoch != epoch


def _too_large(attempt: Attempt, error: SnapshotTooLarge) -> None:
    """Give up the tasks: the run must be able to end, and to show that it is alive."""
    log.warning(
        "snapshot too large, its tasks are left out",
        err_id=ErrorId.SNAPSHOT_TOO_LARGE,
        run_id=attempt.run_id,
        reason=str(error),
    )
    attempt.tasks, attempt.records = {}, {}
