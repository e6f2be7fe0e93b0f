"""Removes the records of workers that were not seen for long: most have a name that never comes back."""

from __future__ import annotations

import time
from dataclasses import dataclass

import structlog
import trio

from pyoco_server.jetstream.errors import BridgeError, WrongRevision
from pyoco_server.jetstream.keyvalue import Entry, KeyValue
from pyoco_server.kernel import Actor
from pyoco_server.model.worker import UnreadableWorker, decode_worker

log = structlog.get_logger(__name__)

_READ_SECONDS = 30.0
# For as long the other gateways can learn of it.
_MARKER_SECONDS = 3600


@dataclass(frozen=True, slots=True)
class LookAtWorkers:
    """Look now."""


class WorkerKeeper(Actor[LookAtWorkers]):
    """Looks now and then. Several gateways may do so at the same time.

    Args:
        bucket: The worker records.
        max_silence: How long a worker may not be seen before its record goes, in seconds.
        interval: Seconds between two looks.
    """

    def __init__(self, bucket: KeyValue, *, max_silence: float, interval: float) -> None:
        self._bucket = bucket
        self._max_silence = max_silence
        self._interval = interval

    async def on_start(self) -> None:
        """Begin to look."""
        self.tell_every(self._interval, LookAtWorkers())

    async def handle(self, message: LookAtWorkers) -> None:  # noqa: ARG002 - there is one kind of message
        """Remove what is too old; a worker that comes back meanwhile wins."""
        with trio.move_on_after(_READ_SECONDS):
            try:
                for entry in await self._bucket.all():
                    if self._is_over(entry):
                        await self._remove(entry)
            except BridgeError as error:
                log.info("worker records not looked through", reason=str(error))

    async def _remove(self, entry: Entry) -> None:
        try:
            await self._bucket.delete(entry.key, entry.revision, marker_seconds=_MARKER_SECONDS)
        except WrongRevision:
            return
        log.info("worker not seen for long, its record is removed", worker_id=entry.key)

    def _is_over(self, entry: Entry) -> bool:
        try:
            seen = decode_worker(entry.value, worker_id=entry.key).last_seen_at
        except UnreadableWorker:
            seen = entry.created
        # By the clock of the server that stored it too: the worker's may be wrong.
        return time.time() - max(seen, entry.created) > self._max_silence
