"""Removes the records of workers that were not seen for long: most have a name that never comes back."""

from __future__ import annotations

import time

import structlog
import trio

from pyoco_server.jetstream.errors import BridgeError, WrongRevision
from pyoco_server.jetstream.keyvalue import Entry, KeyValue
from pyoco_server.model.worker import UnreadableWorker, decode_worker

log = structlog.get_logger(__name__)

_INTERVAL_SECONDS = 600.0
_READ_SECONDS = 30.0
# For as long the other gateways can learn of it.
_MARKER_SECONDS = 3600


async def keep_workers(bucket: KeyValue, *, max_silence: float) -> None:
    """Look every ten minutes whether a worker was not seen for ``max_silence`` seconds.

    Several gateways may do so at the same time.
    """
    while True:
        await trio.sleep(_INTERVAL_SECONDS)
        with trio.move_on_after(_READ_SECONDS):
            try:
                for entry in await bucket.all():
                    # By the clock of the server that stored it too: the worker's may be wrong.
                    if time.time() - max(_seen(entry), entry.created) > max_silence:
                        await _remove(bucket, entry)
            except BridgeError as error:
                log.info("worker records not looked through", reason=str(error))


async def _remove(bucket: KeyValue, entry: Entry) -> None:
    try:
        await bucket.delete(entry.key, entry.revision, marker_seconds=_MARKER_SECONDS)
    except WrongRevision:
        return  # it came back meanwhile
    log.info("worker not seen for long, its record is removed", worker_id=entry.key)


def _seen(entry: Entry) -> float:
    try:
        return decode_worker(entry.value, worker_id=entry.key).last_seen_at
    except UnreadableWorker:
        return entry.created
