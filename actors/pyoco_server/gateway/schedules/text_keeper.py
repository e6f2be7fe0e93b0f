"""Removes flow.yaml texts that schedules brought and no schedule names any more."""

from __future__ import annotations

import structlog
import trio

from pyoco_server.gateway.schedules.board import ScheduleBoard
from pyoco_server.jetstream.connection import Connection
from pyoco_server.jetstream.errors import BridgeError, KeyNotFound, WrongRevision
from pyoco_server.jetstream.inventory import subjects_of
from pyoco_server.jetstream.keyvalue import Entry, KeyValue
from pyoco_server.model.schedules.schedule import (
    UnreadableSchedule,
    decode_schedule,
    is_schedule_key,
)

log = structlog.get_logger(__name__)

_INTERVAL_SECONDS = 3600.0
# Whoever makes a schedule has its text written before, at most a day before (`WorkflowStore`).
_UNUSED_SECONDS = 48 * 3600.0
_MARKER_SECONDS = 3600


class TextKeeper:
    """Looks every hour. Several gateways may do so at the same time."""

    def __init__(self, connection: Connection, bucket: KeyValue, board: ScheduleBoard) -> None:
        self._connection = connection
        self._bucket = bucket
        self._board = board

    async def keep(self) -> None:
        """Look through the texts, for as long as it is not cancelled."""
        while True:
            await trio.sleep(_INTERVAL_SECONDS)
            try:
                removed = await self.sweep()
            except BridgeError as error:
                log.info("texts of schedules not looked through", reason=str(error))
            else:
                if removed:
                    log.info("removed texts of schedules", count=removed)

    async def sweep(self) -> int:
        """Remove what no schedule has named for two days; return how many texts.

        A text that a schedule names again is written before that, which makes it young.

        Raises:
            BridgeError: NATS refused or could not be asked.
        """
        await self._bucket.learn_time()
        old = await self._old_texts()
        if old:
            # What this gateway follows may be behind.
            named = await self._named()
            if named is None:
                return 0
            old = [entry for entry in old if entry.key not in named]
        removed = 0
        for entry in old:
            try:
                await self._bucket.delete(entry.key, entry.revision, marker_seconds=_MARKER_SECONDS)
            except WrongRevision:
                continue
            removed += 1
        return removed

    async def _old_texts(self) -> list[Entry]:
        """The texts that were not written lately, and that no schedule seems to name."""
        found: list[Entry] = []
        named = {schedule.spec.workflow_yaml_sha256 for schedule in self._board.all(lambda _: True)}
        prefix = f"$KV.{self._bucket.bucket}."
        for subject in await subjects_of(self._connection, self._bucket.stream, f"{prefix}*"):
            key = subject.removeprefix(prefix)
            if key in named:
                continue
            try:
                entry = await self._bucket.get(key)
            except KeyNotFound:
                continue
            if self._bucket.now() - entry.created > _UNUSED_SECONDS:
                found.append(entry)
        return found

    async def _named(self) -> set[str | None] | None:
        """The texts that schedules name; None where one cannot be read, which may name any."""
        try:
            return {
                decode_schedule(entry.value).spec.workflow_yaml_sha256
                for entry in await self._bucket.all()
                if is_schedule_key(entry.key)
            }
        except UnreadableSchedule as error:
            log.warning("unreadable schedule", reason=str(error))
            return None
