"""What a slot tells the dispatcher and the heartbeat of itself."""

from __future__ import annotations

from contextlib import suppress

from pyoco_server.kernel import ActorDown, ActorRef
from pyoco_server.model.run import RunSnapshot
from pyoco_server.worker.messages import (
    LastRun,
    Redelivered,
    SlotChanged,
    SlotFree,
    SlotHolds,
    SlotUnfit,
)


class Announcer:
    """Speaks for one slot.

    When the worker stops, the dispatcher goes first, and the slots handle what they were told: what a
    dispatcher that has gone would be told is dropped.

    Args:
        index: Of the slot.
        dispatcher: Hands out jobs.
        heartbeat: Keeps the worker's record.
    """

    def __init__(
        self,
        index: int,
        dispatcher: ActorRef[SlotFree | SlotUnfit | SlotHolds | Redelivered],
        heartbeat: ActorRef[SlotChanged],
    ) -> None:
        self._index = index
        self._dispatcher = dispatcher
        self._heartbeat = heartbeat

    async def free(self) -> None:
        """It takes a job."""
        with suppress(ActorDown):
            await self._dispatcher.tell(SlotFree(self._index))

    async def unfit(self) -> None:
        """It has no job, and takes none before it says that it is free."""
        with suppress(ActorDown):
            await self._dispatcher.tell(SlotUnfit(self._index))

    async def holds(self, run_id: str) -> None:
        """It has a job."""
        with suppress(ActorDown):
            await self._dispatcher.tell(SlotHolds(self._index, run_id))

    async def pass_back(self, again: Redelivered) -> None:
        """A redelivery is not of the job that it has."""
        with suppress(ActorDown):
            await self._dispatcher.tell(again)

    async def changed(
        self, pid: int | None, claim: RunSnapshot | None, last: LastRun | None = None
    ) -> None:
        """It has another child, begins a run, or has ended one."""
        await self._heartbeat.tell(
            SlotChanged(
                self._index,
                pid,
                run_id=None if claim is None else claim.run_id,
                attempt=None if claim is None else claim.attempt,
                since=None if claim is None else claim.start_time,
                last=last,
            )
        )
