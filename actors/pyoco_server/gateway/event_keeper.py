"""Removes the events of runs that are gone, where they would be kept for longer than their run."""

from __future__ import annotations

from dataclasses import dataclass

import structlog

from pyoco_server.jetstream.connection import Connection
from pyoco_server.jetstream.errors import BridgeError
from pyoco_server.jetstream.stored import purge_subject
from pyoco_server.kernel import Actor
from pyoco_server.model.run import UnreadableSnapshot
from pyoco_server.store.runs import RunNotFound, RunStore

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class RunsGone:
    """Ended runs that left the read model: they expired, or were deleted."""

    run_ids: tuple[str, ...]


class EventKeeper(Actor[RunsGone]):
    """Several gateways may do it at once. What it misses goes away at the age limit of the stream.

    Args:
        connection: The way to JetStream.
        runs: The runs.
        stream: The stream of events.
        subject_prefix: What comes before a run's id.
    """

    def __init__(
        self, connection: Connection, runs: RunStore, stream: str, subject_prefix: str
    ) -> None:
        self._connection = connection
        self._runs = runs
        self._stream = stream
        self._prefix = subject_prefix

    async def handle(self, message: RunsGone) -> None:
        """Remove the events of each run, one after the other: there is no hurry."""
        for run_id in message.run_ids:
            try:
                if await self._is_gone(run_id):
                    await purge_subject(self._connection, self._stream, f"{self._prefix}.{run_id}")
            except BridgeError as error:
                log.info("events are left to their age", run_id=run_id, reason=str(error))

    async def _is_gone(self, run_id: str) -> bool:
        try:
            await self._runs.get(run_id)
        except RunNotFound:
            return True
        except UnreadableSnapshot:
            pass
        return False
