"""The clockwork of schedules: each tick gets what its schedule says, once, whichever gateway sees to it.

JetStream says when (`jetstream.wakeups`), and hands each wake-up to one gateway. That one looks at the
schedule's record, writes down by compare-and-set what it decides, submits what is due under ids and keys
that follow from the ticks, writes down what became of them, asks to be woken for the next tick, and only
then acknowledges. Killed between any two of these steps, it leaves a wake-up that comes again, and
another one does the same once more: with no effect where it was done, by the keys and the compare-and-
set.

A wake-up that is lost for good, because a gateway was killed before it had asked for it, is made up for by
`keep_time`, a few seconds later. With a server that holds nothing back (before 2.12) that is all there is.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import structlog
import trio

from pyoco_server.gateway.schedules.alarm import Alarm
from pyoco_server.gateway.schedules.board import ScheduleBoard
from pyoco_server.gateway.schedules.rounds import Outcome, Rounds
from pyoco_server.jetstream import wakeups
from pyoco_server.jetstream.connection import Connection
from pyoco_server.jetstream.consumer import Message, PullConsumer
from pyoco_server.jetstream.errors import BridgeError, NotFound
from pyoco_server.model.schedules.schedule import UnreadableSchedule
from pyoco_server.model.schedules.ticks import NotATiming

log = structlog.get_logger(__name__)

# Rounds at a time, and schedules of a round.
_ROUNDS = 16
_BATCH = 250
_LINGER_SECONDS = 20.0
_RETRY_SECONDS = 1.0
# For how long others may see to a schedule that is due, before this one does unasked.
_PATIENCE_SECONDS = 4.0
# Longer than a round takes; below the time after which a wake-up comes again.
_ROUND_SECONDS = 25.0


class Scheduler:
    """Sees to schedules whose time has come; several of them, one in each gateway, share the work."""

    def __init__(
        self, connection: Connection, board: ScheduleBoard, rounds: Rounds, alarm: Alarm
    ) -> None:
        self._connection = connection
        self._board = board
        self._rounds = rounds
        self._alarm = alarm
        # Gateways should not all do it at the same moment.
        self._patience = _PATIENCE_SECONDS * random.uniform(1.0, 2.0)  # noqa: S311

    async def take(self) -> None:
        """Take wake-ups for as long as it is not cancelled."""
        room = trio.Semaphore(_ROUNDS)
        consumer = PullConsumer(self._connection, wakeups.STREAM, wakeups.DURABLE)
        async with trio.open_nursery() as nursery:
            while True:
                await self._board.some()
                try:
                    try:
                        messages = await consumer.fetch(1, expires=_LINGER_SECONDS)
                        if messages:
                            messages += await consumer.fetch(_BATCH - 1, expires=0)
                    except NotFound:
                        await wakeups.ensure_wakeups(self._connection)
                        continue
                except BridgeError as error:
                    log.debug("wake-ups not taken", reason=str(error))
                    await trio.sleep(_RETRY_SECONDS)
                    continue
                if messages:
                    await room.acquire()
                    nursery.start_soon(self._on_wakes, messages, room)

    async def keep_time(self) -> None:
        """Look at what is due and nobody has seen to, for as long as it is not cancelled."""
        while True:
            await self._board.some()
            if not self._connection.status.connected:
                await self._connection.changed()
                continue
            if not await self._alarm.ask():
                await trio.sleep(_RETRY_SECONDS)
                continue
            wake = self._board.next_wake()
            patience = self._patience if self._alarm.server_keeps_time else 0.0
            late = self._connection.clock.now() - patience
            if wake is None or wake[0] > late:
                with trio.move_on_after(3600.0 if wake is None else wake[0] - late):
                    await self._board.changed()
                continue
            keys = self._board.due(late, _BATCH)
            outcomes = await self._see_to(keys)
            if not all(_seen_to(outcomes, key) for key in keys) or self._board.next_wake() == wake:
                await trio.sleep(_RETRY_SECONDS)

    async def _on_wakes(self, messages: Sequence[Message], room: trio.Semaphore) -> None:
        woken = {message: wakeups.woken(message.subject) for message in messages}
        at_least = max(message.delivery.timestamp for message in messages)
        try:
            outcomes = await self._see_to(list(dict.fromkeys(woken.values())), at_least=at_least)
            for message, key in woken.items():
                if _seen_to(outcomes, key):
                    message.ack_soon()
                else:
                    await message.nak(_RETRY_SECONDS)
        except BridgeError as error:
            log.debug("wake-ups not given back", reason=str(error))
        finally:
            room.release()

    async def _see_to(self, keys: Sequence[str], *, at_least: float = 0.0) -> dict[str, Outcome]:
        """As `Rounds.see_to`; those are missing that there was no time for."""
        with trio.move_on_after(_ROUND_SECONDS):
            return await self._rounds.see_to(keys, at_least=at_least)
        return {}


def _seen_to(outcomes: dict[str, Outcome], key: str) -> bool:
    match outcomes.get(key, TimeoutError("it took too long")):
        case UnreadableSchedule() | NotATiming() as error:
            # Who can see to it has it on the board.
            log.warning("schedule cannot be seen to", key=key, reason=str(error))
        case Exception() as error:
            log.info("schedule to be looked at again", key=key, reason=str(error))
            return False
        case _:
            pass
    return True
