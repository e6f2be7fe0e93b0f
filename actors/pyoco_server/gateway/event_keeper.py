"""Removes the events of runs that are gone, where they would be kept for longer than their run."""

from __future__ import annotations

import structlog
import trio

from pyoco_server.gateway.read_model.rows import RunRow
from pyoco_server.jetstream.connection import Connection
from pyoco_server.jetstream.errors import BridgeError
from pyoco_server.jetstream.stored import purge_subject
from pyoco_server.store.runs import RunStore

log = structlog.get_logger(__name__)

_MOST_WAITING = 64


class EventKeeper:
    """Several gateways may do it at once. What it misses goes away at the age limit of the stream."""

    def __init__(
        self, connection: Connection, runs: RunStore, stream: str, subject_prefix: str
    ) -> None:
        self._connection = connection
        self._runs = runs
        self._stream = stream
        self._prefix = subject_prefix
        self._tell, self._told = trio.open_memory_channel[tuple[RunRow, ...]](_MOST_WAITING)

    def on_removed(self, rows: tuple[RunRow, ...]) -> None:
        """Runs have left the read model: they expired, or were deleted."""
        try:
            self._tell.send_nowait(rows)
        except trio.WouldBlock:
            log.info("events of removed runs are left to their age", runs=len(rows))

    async def keep(self) -> None:
        """Remove the events of each that had ended, one after the other: there is no hurry."""
        async for rows in self._told:
            for run_id in (row.run_id for row in rows if row.status.terminal):
                try:
                    if await self._runs.is_gone(run_id):
                        subject = f"{self._prefix}.{run_id}"
                        await purge_subject(self._connection, self._stream, subject)
                except BridgeError as error:
                    log.info("events are left to their age", run_id=run_id, reason=str(error))
