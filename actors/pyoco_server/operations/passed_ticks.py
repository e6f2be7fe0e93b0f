"""What becomes of the ticks of schedules that passed between a backup and its restore."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

import trio

from pyoco_server.jetstream.connection import Connection
from pyoco_server.jetstream.errors import NotFound
from pyoco_server.jetstream.keyvalue import KeyValue
from pyoco_server.model.counted import counted
from pyoco_server.model.run import UnreadableSnapshot
from pyoco_server.model.schedules.rules import decide, due
from pyoco_server.model.schedules.schedule import Schedule, decode_schedule
from pyoco_server.settings import Settings
from pyoco_server.store.entries import readable
from pyoco_server.store.runs import RunNotFound, RunStore


@dataclass(frozen=True)
class PassedTicks:
    """What gateways will do once they run again.

    Attributes:
        schedules: How many schedules there are that are not paused.
        made_up: How many of their ticks have passed and will have a run, by ``catch_up`` and ``overlap``.
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
            f"of which {self.made_up} will have a run (catch_up, overlap) and {self.left_out} will have none"
        )


async def passed_ticks(connection: Connection, settings: Settings) -> PassedTicks:
    """Look at what is due of the schedules that are stored.

    Raises:
        NotATiming: Those of a schedule cannot be computed here.
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
    runs = RunStore(KeyValue(connection, settings.runs_kv_bucket), max_bytes=0)
    going = [each for each in schedules if not each.paused]
    made_up = left_out = 0
    for each in going:
        now = bucket.now()
        what = await trio.to_thread.run_sync(due, each, now)
        alive = bool(what.ticks) and await _goes_on(runs, each)
        decision = decide(each, what, now, alive=alive)
        # Those that wait had passed before the backup.
        new = {*decision.start, *decision.waiting}.difference(each.progress.waiting)
        made_up += len(new)
        left_out += sum(
            record.count for record in decision.settled if record.tick not in each.progress.waiting
        )
    return PassedTicks(len(going), made_up, left_out)


async def _goes_on(runs: RunStore, schedule: Schedule) -> bool:
    """Whether a run of a schedule has not ended, or is just being submitted."""
    for run_id in schedule.progress.active:
        with suppress(RunNotFound, UnreadableSnapshot):
            if not (await runs.get(run_id)).snapshot.status.terminal:
                return True
    return bool(schedule.progress.starting)
