"""What a gateway knows of all schedules: it follows their bucket. Lists are answered from it, no more."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable
from typing import assert_never

import structlog
from msgspec.structs import replace
from trio.lowlevel import ParkingLot

from pyoco_server.jetstream.keyvalue import CaughtUp, Deleted, Entry, KeyValue, Reset
from pyoco_server.model.schedules.schedule import Schedule, UnreadableSchedule, decode_schedule
from pyoco_server.store.schedules import StoredSchedule

log = structlog.get_logger(__name__)

_MOST_DELETED = 1_000


class ScheduleBoard:
    """All schedules, some milliseconds behind the bucket.

    Attributes:
        caught_up: Whether it has been read to its end.
    """

    def __init__(self, bucket: KeyValue) -> None:
        self._bucket = bucket
        self._known: dict[str, StoredSchedule] = {}
        self._deleted: dict[str, int] = {}
        # When each has to be looked at; what was replaced meanwhile is left in and dropped when it comes up.
        self._wakes: list[tuple[float, str]] = []
        self._changed = ParkingLot()
        self.caught_up = False

    def __len__(self) -> int:
        return len(self._known)

    def count(self, tenant_id: str) -> int:
        """How many a tenant has."""
        return sum(stored.schedule.tenant_id == tenant_id for stored in self._known.values())

    def get(self, key: str) -> Schedule | None:
        """A schedule; None where it is not known."""
        found = self._known.get(key)
        return None if found is None else found.schedule

    def all(self, wanted: Callable[[Schedule], bool]) -> Iterable[Schedule]:
        """Those that are wanted, by id."""
        found = [stored.schedule for stored in self._known.values() if wanted(stored.schedule)]
        return sorted(found, key=lambda schedule: (schedule.schedule_id, schedule.tenant_id or ""))

    def note(self, stored: StoredSchedule) -> None:
        """Take what was written here, ahead of the watch that will bring it."""
        key = stored.schedule.key
        known = self._known.get(key)
        if self._deleted.get(key, 0) > stored.revision:
            return
        if known is None or known.revision < stored.revision:
            self._known[key] = stored
            wake_at = stored.schedule.progress.wake_at
            before = None if known is None else known.schedule.progress.wake_at
            if wake_at is not None and wake_at != before:
                heapq.heappush(self._wakes, (wake_at, key))
            self._changed.unpark_all()

    def pass_over(self, stored: StoredSchedule) -> None:
        """Do not say again that a schedule has to be looked at, until somebody writes it."""
        self.note(stored)
        schedule = stored.schedule
        known = self._known.get(schedule.key)
        if known is not None and known.revision == stored.revision:
            progress = replace(schedule.progress, wake_at=None)
            never = StoredSchedule(replace(schedule, progress=progress), stored.revision)
            self._known[schedule.key] = never

    def drop(self, key: str, revision: int) -> None:
        """Take note that there is no schedule any more."""
        known = self._known.get(key)
        if known is None or known.revision <= revision:
            self._known.pop(key, None)

    def next_wake(self) -> tuple[float, str] | None:
        """The schedule that has to be looked at first, and when; None for none."""
        while self._wakes:
            at, key = self._wakes[0]
            known = self._known.get(key)
            if known is not None and known.schedule.progress.wake_at == at:
                return at, key
            heapq.heappop(self._wakes)
        return None

    def due(self, until: float, most: int) -> list[str]:
        """Those that have to be looked at by a moment, the first ones of them."""
        found: list[tuple[float, str]] = []
        while len(found) < most and (wake := self.next_wake()) is not None and wake[0] <= until:
            found.append(heapq.heappop(self._wakes))
        for wake in found:
            heapq.heappush(self._wakes, wake)
        return list(dict.fromkeys(key for _, key in found))

    async def changed(self) -> None:
        """Wait until something else is known."""
        await self._changed.park()

    async def some(self) -> None:
        """Wait until there is a schedule at all."""
        while not self._known:
            await self._changed.park()

    async def follow(self) -> None:
        """Follow the bucket, for as long as it is not cancelled."""
        async with self._bucket.watch("schedule.>") as changes:
            async for event in changes:
                match event:
                    case Reset():
                        self._known.clear()
                        # Of a storage that went back in time: what it deletes later has lesser revisions.
                        self._deleted.clear()
                        self._wakes.clear()
                        self.caught_up = False
                    case CaughtUp():
                        self.caught_up = True
                    case Deleted(key, revision):
                        self._deleted[key] = revision
                        while len(self._deleted) > _MOST_DELETED:
                            del self._deleted[next(iter(self._deleted))]
                        self.drop(key, revision)
                    case Entry():
                        self._learn(event)
                    case _:
                        assert_never(event)
                self._changed.unpark_all()

    def _learn(self, entry: Entry) -> None:
        try:
            schedule = decode_schedule(entry.value)
        except UnreadableSchedule as error:
            log.warning("unreadable schedule", key=entry.key, reason=str(error))
            self.drop(entry.key, entry.revision)
            return
        self.note(StoredSchedule(schedule, entry.revision))
