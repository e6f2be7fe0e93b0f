"""Removes flow.yaml texts that schedules brought and no schedule names any more."""

from __future__ import annotations

from contextlib import suppress

import structlog

from pyoco_server.gateway.schedules.board import ScheduleBoard
from pyoco_server.jetstream.connection import Connection
from pyoco_server.jetstream.errors import KeyNotFound, WrongRevision
from pyoco_server.jetstream.inventory import subjects_of
from pyoco_server.jetstream.keyvalue import Entry, KeyValue
from pyoco_server.model.schedules.schedule import (
    UnreadableSchedule,
    decode_schedule,
    is_schedule_key,
)

log = structlog.get_logger(__name__)

# Whoever makes a schedule has its text written before.
_UNUSED_SECONDS = 48 * 3600.0
_MARKER_SECONDS = 3600


async def sweep_texts(connection: Connection, bucket: KeyValue, board: ScheduleBoard) -> int:
    """Remove what no schedule has named for two days; return how many texts.

    A text that a schedule names again is written before that, which makes it young.

    Raises:
        BridgeError: NATS refused or could not be asked.
    """
    await bucket.learn_time()
    old = await _old_texts(connection, bucket, board)
    # What this gateway follows may be behind.
    named = await _named(bucket) if old else None
    removed = 0
    for entry in old:
        if named is not None and entry.key not in named:
            with suppress(WrongRevision):
                await bucket.delete(entry.key, entry.revision, marker_seconds=_MARKER_SECONDS)
                removed += 1
    return removed


async def _old_texts(connection: Connection, bucket: KeyValue, board: ScheduleBoard) -> list[Entry]:
    """The texts that were not written lately, and that no schedule seems to name."""
    found: list[Entry] = []
    named = {schedule.spec.workflow_yaml_sha256 for schedule in board.all(lambda _: True)}
    prefix = f"$KV.{bucket.bucket}."
    for subject in await subjects_of(connection, bucket.stream, f"{prefix}*"):
        key = subject.removeprefix(prefix)
        if key in named:
            continue
        with suppress(KeyNotFound):
            entry = await bucket.get(key)
            if bucket.now() - entry.created > _UNUSED_SECONDS:
                found.append(entry)
    return found


async def _named(bucket: KeyValue) -> set[str | None] | None:
    """The texts that schedules name; None where one cannot be read, which may name any."""
    try:
        return {
            decode_schedule(entry.value).spec.workflow_yaml_sha256
            for entry in await bucket.all()
            if is_schedule_key(entry.key)
        }
    except UnreadableSchedule as error:
        log.warning("unreadable schedule", reason=str(error))
        return None
