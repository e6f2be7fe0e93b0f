"""What becomes of the ticks of schedules that passed between a backup and its restore."""

from __future__ import annotations

from dataclasses import dataclass

from pyoco_server.jetstream.connection import Connection
from pyoco_server.jetstream.errors import NotFound
from pyoco_server.jetstream.keyvalue import KeyValue
from pyoco_server.model.counted import counted
from pyoco_server.model.schedules.rules import due
from pyoco_server.model.schedules.schedule import decode_schedule
from pyoco_server.settings import Settings
from pyoco_server.store.entries import readable


@dataclass(frozen=True)
class PassedTicks:
    """What gateways will do once they run again.

    Attributes:
        schedules: How many schedules there are that are not paused.
        made_up: How many of their ticks have passed and will have a run, by ``catch_up``.
        left_out: How many have passed and will have none; at least so many.
    """

    schedules: int = 0
    made_up: int = 0
    left_out: int = 0

    def __str__(self) -> str:
        """As people are told."""
        if not self.schedules:
            return "no schedules"
        passed = self.made_up + self.left_out
        return (
            f"{counted(self.schedules, 'schedule')}: "
            f"{counted(passed, 'tick has', 'ticks have')} passed since the backup, "
            f"of which {self.made_up} will have a run (catch_up) and {self.left_out} will have none"
        )


async def passed_ticks(connection: Connection, settings: Settings) -> PassedTicks:
    """Look at what is due of the schedules that are stored.

    Raises:
        BridgeError: NATS refused or could not be asked.
    """
    bucket = KeyValue(connection, settings.schedules_kv_bucket)
    try:
        await bucket.learn_time()
        found_any = await bucket.newest("schedule.>")
    except NotFound:  # the backup of an earlier version
        found_any = 0
    if not found_any:
        return PassedTicks()
    schedules = await readable(bucket, lambda entry: decode_schedule(entry.value))
    found = [due(each, bucket.now()) for each in schedules if not each.paused]
    return PassedTicks(
        len(found),
        sum(len(what.ticks) for what in found),
        sum(what.missed.count for what in found if what.missed is not None),
    )
