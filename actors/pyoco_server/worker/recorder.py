"""What keeps a run with its worker while it is executed, and the write of its end."""

from __future__ import annotations

import structlog
import trio

from pyoco_server.jetstream.connection import Connection
from pyoco_server.jetstream.errors import BridgeError
from pyoco_server.model import decisions
from pyoco_server.model.errors import ErrorId
from pyoco_server.model.run import RunStatus, SnapshotTooLarge, UnreadableSnapshot
from pyoco_server.settings import Settings
from pyoco_server.worker.attempt import Attempt, Ending

log = structlog.get_logger(__name__)

# Changes of tasks are written together: a flow of many short tasks would else write more than it works.
# A run that is over sooner needs no keeping.
GATHER_SECONDS = 0.05
# How long a write waits that failed: short at first and after each reconnect, longer each time.
_FIRST_RETRY_SECONDS = 0.05
_RETRY_SECONDS = 1.0


async def keep(attempt: Attempt, settings: Settings, connection: Connection) -> None:
    """Keep the job and the claim until the attempt is closed, and write its progress until it has its end.

    Where it finds that the claim is lost, it says so and ends.
    """
    async with trio.open_nursery() as nursery:
        attempt.keeping = nursery.cancel_scope
        nursery.start_soon(_keep_lease, attempt, settings.ack_progress_interval, connection)
        await _write_progress(attempt, settings.run_heartbeat_interval_sec, connection)
        if attempt.lost:
            nursery.cancel_scope.cancel()


async def _keep_lease(attempt: Attempt, interval: float, connection: Connection) -> None:
    """Show life at once, each ``interval`` seconds and at each reconnect."""
    while True:
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
        await reconnected(connection, epoch, within=interval)


async def _write_progress(attempt: Attempt, interval: float, connection: Connection) -> None:
    """Write what changed, at once where a try begins, or a sign of life each ``interval`` seconds."""
    delay = _FIRST_RETRY_SECONDS
    with trio.CancelScope() as attempt.progressing:
        while attempt.ending is None:
            with trio.move_on_after(interval):
                await attempt.changed.wait()
                with trio.move_on_after(GATHER_SECONDS):
                    await attempt.urgent.wait()
            epoch = connection.epoch
            if not await holds(attempt):
                attempt.lose()
                return
            if attempt.tries_waiting and not (attempt.urgent.is_set() or attempt.cancelling):
                back = await reconnected(connection, epoch, within=delay)
                delay = _FIRST_RETRY_SECONDS if back else min(delay * 2, _RETRY_SECONDS)
                attempt.hurry()
            else:
                delay = _FIRST_RETRY_SECONDS
            if attempt.cancelling:
                attempt.ask_to_cancel()


async def holds(attempt: Attempt) -> bool:
    """Write the progress; return whether the claim still holds, as far as can be told."""
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


async def store_end(attempt: Attempt, ending: Ending, connection: Connection) -> decisions.Finish:
    """Store how the attempt ended, however long NATS is away; return what that makes of the run."""
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
            back = await reconnected(connection, epoch, within=delay)
            delay = _FIRST_RETRY_SECONDS if back else min(delay * 2, _RETRY_SECONDS)
        except SnapshotTooLarge as error:
            if tasks_left_out:
                log.exception("the end of a run cannot be stored", run_id=attempt.run_id)
                return decisions.Superseded(attempt.stored.snapshot)
            tasks_left_out = True
            _too_large(attempt, error)
            ending = Ending(RunStatus.FAILED, ending.at, str(error), "snapshot_too_large")
        except UnreadableSnapshot as error:
            log.warning("snapshot overwritten by others", run_id=attempt.run_id, reason=str(error))
            return decisions.Superseded(attempt.stored.snapshot)


async def reconnected(connection: Connection, epoch: int, *, within: float) -> bool:
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
    if not (attempt.tasks or attempt.records):
        # Even so: its tries are counted within this attempt only.
        attempt.tries_begun = {}
        attempt.begin_tries(list(attempt.tries_waiting))
    attempt.tasks, attempt.records = {}, {}
