"""Knows the workers that were seen, and what the operator wants of them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Final, assert_never

import structlog
import trio
from msgspec.structs import replace

from pyoco_server.jetstream.connection import Connection
from pyoco_server.jetstream.errors import (
    InvalidKey,
    KeyNotFound,
    Unanswered,
    WrongRevision,
)
from pyoco_server.jetstream.keyvalue import CaughtUp, Deleted, Entry, KeyValue, Reset, WatchEvent
from pyoco_server.kernel import Refusal
from pyoco_server.model.errors import ErrorId
from pyoco_server.model.worker import (
    UnreadableWorker,
    WorkerOrder,
    WorkerRecord,
    WorkerState,
    decode_worker,
    effective_state,
    encode_worker,
    last_sign,
    ordered,
)
from pyoco_server.store.control import LookAtRecord, control_subject, encode_control

log = structlog.get_logger(__name__)

# A worker writes its record every few seconds: so many lost races in a row are none.
_MOST_RACES: Final = 20
_READ_SECONDS: Final = 30.0
# For as long the other gateways can learn of it.
_MARKER_SECONDS: Final = 3600


class WorkerNotFound(Refusal):
    """No worker has this id."""

    error_id = ErrorId.WORKER_NOT_FOUND

    def __init__(self, worker_id: str) -> None:
        super().__init__(f"worker {worker_id!r} not found")
        self.worker_id = worker_id


class WorkerNotSteerable(Refusal):
    """The worker is of a version that takes no orders."""

    def __init__(self, worker_id: str) -> None:
        super().__init__(
            f"worker {worker_id!r} is of a version that takes no orders: stop it by SIGTERM"
        )


class WorkerRegistry:
    """The last known records of workers, kept by `follow`.

    In a bucket with a time to live, as 0.5.1 makes it, the record of a dead worker expires. Here it stays, so
    that it is shown as DISCONNECTED instead of vanishing: an expiry is nothing that a watch tells.

    Attributes:
        caught_up: Whether all records were read once.
    """

    def __init__(self, connection: Connection, bucket: KeyValue) -> None:
        self._connection = connection
        self._bucket = bucket
        self._records: dict[str, WorkerRecord] = {}
        # When each was seen, by the server's clock.
        self._seen_at: dict[str, float] = {}
        self.caught_up = False

    async def follow(self) -> None:
        """Follow the workers bucket, for as long as it is not cancelled."""
        async with self._bucket.watch() as changes:
            async for event in changes:
                self._note(event)

    def get(self, worker_id: str) -> WorkerRecord | None:
        """The last known record of a worker."""
        return self._records.get(worker_id)

    def state(self, record: WorkerRecord, timeout: float) -> WorkerState:
        """The state of a worker as of now; see `effective_state`."""
        seen_at = self._seen_at.get(record.worker_id)
        return effective_state(record, self._bucket.now(), timeout, seen_at=seen_at)

    def newest_first(self) -> list[WorkerRecord]:
        """All records, last seen first."""
        return sorted(self._records.values(), key=lambda record: record.last_seen_at, reverse=True)

    async def hide(self, worker_id: str, *, hidden: bool) -> WorkerRecord:
        """Set ``hidden`` of a worker; return the stored record.

        Raises:
            WorkerNotFound: Nobody has the id.
            BridgeError: NATS refused or could not be asked.
        """
        return await self._change(worker_id, lambda record: replace(record, hidden=hidden))

    async def order(
        self,
        worker_id: str,
        order: WorkerOrder,
        *,
        by: str | None = None,
        reason: str | None = None,
    ) -> WorkerRecord:
        """Tell a worker to pause, resume or drain; return the stored record, with by whom and why.

        Raises:
            WorkerNotFound: Nobody has the id.
            WorkerNotSteerable: It is of version 0.5.1.
            BridgeError: NATS refused or could not be asked.
        """

        def change(record: WorkerRecord) -> WorkerRecord:
            if not record.slots:  # as those of version 0.5.1, which overwrite what they do not know
                raise WorkerNotSteerable(worker_id)
            told = {"ordered_at": self._bucket.now(), "ordered_by": by, "order_reason": reason}
            return replace(ordered(record, order), **told)

        return await self._change(worker_id, change)

    def _note(self, event: WatchEvent) -> None:
        match event:
            case Entry():
                try:
                    record = decode_worker(event.value, worker_id=event.key)
                except UnreadableWorker as error:
                    log.warning("unreadable worker record", worker_id=event.key, reason=str(error))
                else:
                    self._note_record(event, record)
            case Deleted():
                self._records.pop(event.key, None)
                self._seen_at.pop(event.key, None)
            case Reset():
                self.caught_up = False
                self._records.clear()
                self._seen_at.clear()
            case CaughtUp():
                self.caught_up = True
            case _:
                assert_never(event)

    def _note_record(self, entry: Entry, record: WorkerRecord) -> None:
        known = self._records.get(entry.key)
        # What the operator changes is no sign of life.
        if known is None or known.last_seen_at != record.last_seen_at:
            self._seen_at[entry.key] = last_sign(record, entry.created)
        self._records[entry.key] = record

    async def _change(
        self, worker_id: str, change: Callable[[WorkerRecord], WorkerRecord]
    ) -> WorkerRecord:
        try:
            for _ in range(_MOST_RACES):
                try:
                    changed = await self._try_change(worker_id, change)
                except WrongRevision:
                    continue
                # A courtesy: the worker's next heartbeat meets the change in any case.
                self._connection.publish_soon(
                    control_subject(changed.instance_id), encode_control(LookAtRecord())
                )
                return changed
        except (KeyNotFound, InvalidKey):
            raise WorkerNotFound(worker_id) from None
        raise Unanswered(f"worker {worker_id} is written without a pause")

    async def _try_change(
        self, worker_id: str, change: Callable[[WorkerRecord], WorkerRecord]
    ) -> WorkerRecord:
        known = self._records.get(worker_id)
        revision = 0
        try:
            entry = await self._bucket.get(worker_id)
            revision = entry.revision
            known = decode_worker(entry.value, worker_id=worker_id)
        except KeyNotFound:
            if known is None:
                raise
        except UnreadableWorker:
            known = WorkerRecord(worker_id=worker_id, instance_id=worker_id)
        assert known is not None
        changed = replace(change(known), updated_at=self._bucket.now())
        if revision:
            await self._bucket.update(worker_id, encode_worker(changed), revision)
        else:
            await self._bucket.create(worker_id, encode_worker(changed))
        return changed


async def sweep_workers(bucket: KeyValue, *, max_silence: float) -> int:
    """Remove records of workers not seen for ``max_silence`` seconds: most have a name that never comes back.

    Returns how many.

    Raises:
        BridgeError: NATS refused or could not be asked.
    """
    removed = 0
    with trio.move_on_after(_READ_SECONDS):
        for entry in await bucket.all():
            # By the clock of the server that stored it: the worker's may be wrong.
            if bucket.now() - entry.created > max_silence:
                with suppress(WrongRevision):  # it came back meanwhile
                    await bucket.delete(entry.key, entry.revision, marker_seconds=_MARKER_SECONDS)
                    log.info("worker not seen for long, its record removed", worker_id=entry.key)
                    removed += 1
    return removed
