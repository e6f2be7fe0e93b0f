"""Has schedules looked at when they are due next: JetStream wakes somebody up, where it can do that."""

from __future__ import annotations

import structlog

from pyoco_server.gateway.schedules.board import ScheduleBoard
from pyoco_server.jetstream import wakeups
from pyoco_server.jetstream.connection import Connection
from pyoco_server.jetstream.errors import BridgeError
from pyoco_server.store.schedules import StoredSchedule

log = structlog.get_logger(__name__)


class Alarm:
    """Asks for wake-ups.

    Attributes:
        server_keeps_time: Whether the server wakes anybody, as far as it is known.
    """

    def __init__(self, connection: Connection, board: ScheduleBoard) -> None:
        self._connection = connection
        self._board = board
        self._asked_on = -1
        self.server_keeps_time = True

    async def set(self, *stored: StoredSchedule) -> None:
        """Have schedules looked at when each is due next.

        Raises:
            BridgeError: It is not known that all of them will be.
        """
        wakes: dict[str, float] = {}
        for each in stored:
            self._board.note(each)
            if (wake_at := each.schedule.progress.wake_at) is not None:
                wakes[each.schedule.key] = wake_at
        if wakes and await self.ask() and self.server_keeps_time:
            await wakeups.wake(self._connection, wakes)

    async def set_soon(self, stored: StoredSchedule) -> None:
        """The same for one that was just written; where it fails, whoever keeps the time makes up for it."""
        try:
            await self.set(stored)
        except BridgeError as error:
            log.info("no wake-up yet", schedule_id=stored.schedule.schedule_id, reason=str(error))

    async def ask(self) -> bool:
        """Learn once a connection whether the server keeps the time, and what time it is."""
        epoch = self._connection.epoch
        if epoch == self._asked_on:
            return True
        try:
            keeps = await wakeups.keeps_time(self._connection)
        except BridgeError as error:
            log.debug("time not asked", reason=str(error))
            return False
        if not keeps and self.server_keeps_time:
            log.warning(
                "the NATS server holds no messages back (it is older than 2.12): "
                "gateways keep the time of schedules themselves"
            )
        self.server_keeps_time = keeps
        self._asked_on = epoch
        return True
