"""The stored schedules, each written by compare-and-set: what people change, and how far it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pyoco_server.jetstream.errors import BatchRefused, KeyNotFound, Unavailable, WrongRevision
from pyoco_server.jetstream.keyvalue import KeyValue
from pyoco_server.model.json_text import encode_json
from pyoco_server.model.schedules.schedule import Schedule, decode_schedule
from pyoco_server.store.fenced import write_fenced

# For one write, retries included.
_WITHIN_SECONDS = 5.0
# What is left of a schedule that was deleted: far longer than a write of it is under way.
_MARKER_SECONDS = 86_400
# What goes to NATS in one piece; more of it waits for its turn.
_MOST_TOGETHER_BYTES = 4 * 1024 * 1024
ROOM_BYTES = 160 * 1024
"""What the ticks and changes that a schedule tells of take at most, beside what people say of it."""


@dataclass(frozen=True, slots=True)
class StoredSchedule:
    """A schedule, and the revision that it is stored under."""

    schedule: Schedule
    revision: int


class ScheduleStore:
    """Reads and writes schedules.

    Each call raises a `BridgeError` where NATS refused or could not be asked; what it writes may be written
    or not.
    """

    def __init__(self, bucket: KeyValue) -> None:
        self.bucket = bucket

    @property
    def max_spec_bytes(self) -> int | None:
        """The largest spec of a schedule that can be written for all its life; None for not known."""
        limit = self.bucket.max_value_bytes
        return None if limit is None else limit - min(ROOM_BYTES, limit // 2)

    async def now(self) -> float:
        """The server's time, in unix seconds: clocks of gateways may be minutes apart.

        Raises:
            Unavailable: It is not known yet.
        """
        if not await self.bucket.learn_time():
            raise Unavailable("the server's time is not known yet")
        return self.bucket.now()

    async def get(self, key: str) -> StoredSchedule | None:
        """Read a schedule, as it was written last; None where there is none.

        Raises:
            UnreadableSchedule: Something else is stored there.
        """
        try:
            entry = await self.bucket.get(key)
        except KeyNotFound:
            return None
        return StoredSchedule(decode_schedule(entry.value), entry.revision)

    async def create(self, schedule: Schedule) -> StoredSchedule | None:
        """Write a schedule where there is none; None where there is one."""
        revision = 0
        try:
            await self.bucket.get(schedule.key)
        except KeyNotFound as missing:
            revision = missing.revision
        else:
            return None
        return await self._write(schedule, revision)

    async def update(self, stored: StoredSchedule, schedule: Schedule) -> StoredSchedule | None:
        """Write a schedule where nobody has since it was read; None where somebody has."""
        return await self._write(schedule, stored.revision)

    async def update_all(
        self, writes: Sequence[tuple[StoredSchedule, Schedule]]
    ) -> list[StoredSchedule]:
        """Write schedules where nobody has since they were read: all of them, or none.

        Raises:
            BridgeError: As `KeyValue.update_all`; where one was written by somebody else, as where they
                cannot be written together.
        """
        values = [
            (schedule.key, encode_json(schedule), stored.revision) for stored, schedule in writes
        ]
        size = sum(len(value) for _, value, _ in values)
        if size > _MOST_TOGETHER_BYTES:
            raise BatchRefused(f"{size} bytes at a time")
        revisions = await self.bucket.update_all(values)
        return [
            StoredSchedule(schedule, revision)
            for (_, schedule), revision in zip(writes, revisions, strict=True)
        ]

    async def delete(self, stored: StoredSchedule) -> bool:
        """Delete a schedule that nobody has written since it was read; False where somebody has."""
        try:
            await self.bucket.delete(
                stored.schedule.key, stored.revision, marker_seconds=_MARKER_SECONDS
            )
        except WrongRevision:
            return False
        return True

    async def _write(self, schedule: Schedule, before: int) -> StoredSchedule | None:
        try:
            revision = await write_fenced(
                self.bucket, schedule.key, encode_json(schedule), before, within=_WITHIN_SECONDS
            )
        except WrongRevision:
            return None
        return StoredSchedule(schedule, revision)
