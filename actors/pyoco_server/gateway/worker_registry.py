"""Knows the workers that were seen, and what the operator wants of them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final, assert_never

import structlog
from msgspec.structs import replace

from pyoco_server.jetstream.connection import Connection
from pyoco_server.jetstream.errors import BridgeError, InvalidKey, KeyNotFound, WrongRevision
from pyoco_server.jetstream.keyvalue import CaughtUp, Deleted, Entry, KeyValue, Reset, WatchEvent
from pyoco_server.kernel import Actor, Refusal, Reply, Request
from pyoco_server.model.errors import ErrorId
from pyoco_server.model.worker import (
    UnreadableWorker,
    WorkerOrder,
    WorkerRecord,
    decode_worker,
    encode_worker,
    ordered,
)
from pyoco_server.store.control import LookAtRecord, control_subject, encode_control

log = structlog.get_logger(__name__)

# A worker writes its record every few seconds: so many lost races in a row are none.
_MOST_RACES: Final = 20


class WorkerNotFound(Refusal):
    """No worker has this id."""

    error_id = ErrorId.WORKER_NOT_FOUND

    def __init__(self, worker_id: str) -> None:
        super().__init__(f"worker {worker_id!r} not found")
        self.worker_id = worker_id


class WorkerNotChanged(Refusal):
    """The worker's record could not be written; the text says why."""


class WorkerNotSteerable(Refusal):
    """The worker is of a version that takes no orders."""

    def __init__(self, worker_id: str) -> None:
        super().__init__(
            f"worker {worker_id!r} is of a version that takes no orders: stop it by SIGTERM"
        )


@dataclass(frozen=True, slots=True)
class GetWorker(Request[WorkerRecord | None]):
    """The last known record of a worker."""

    worker_id: str


@dataclass(frozen=True, slots=True)
class ListWorkers(Request[tuple[WorkerRecord, ...] | None]):
    """The last known records of all workers, last seen first; None while they were not read once."""


@dataclass(frozen=True, slots=True)
class HideWorker(Request[WorkerRecord]):
    """Set ``hidden`` of a worker; answered with the stored record."""

    worker_id: str
    hidden: bool


@dataclass(frozen=True, slots=True)
class OrderWorker(Request[WorkerRecord]):
    """Tell a worker to pause, resume or drain; answered with the stored record."""

    worker_id: str
    order: WorkerOrder


@dataclass(frozen=True, slots=True)
class WorkersSeen(Request[bool]):
    """Whether all records were read once."""


@dataclass(frozen=True, slots=True)
class _Changed:
    event: WatchEvent


RegistryMessage = GetWorker | ListWorkers | HideWorker | OrderWorker | WorkersSeen | _Changed

Change = Callable[[WorkerRecord], WorkerRecord]


class WorkerRegistry(Actor[RegistryMessage]):
    """Follows the workers bucket.

    In a bucket with a time to live, as 0.5.1 makes it, the record of a dead worker expires. Here it stays, so
    that it is shown as DISCONNECTED instead of vanishing: an expiry is nothing that a watch tells.
    """

    def __init__(self, connection: Connection, bucket: KeyValue) -> None:
        self._connection = connection
        self._bucket = bucket
        self._records: dict[str, WorkerRecord] = {}
        self._caught_up = False

    async def on_start(self) -> None:
        """Begin to follow the bucket; catching up goes on in the background."""
        self.spawn(self._follow)

    async def _follow(self) -> None:
        async with self._bucket.watch() as changes:
            async for event in changes:
                await self.me.tell(_Changed(event))

    async def handle(self, message: RegistryMessage) -> None:
        """Note a change, or answer.

        Raises:
            WorkerNotFound: Nobody has the id.
            WorkerNotChanged: NATS refused or could not be asked.
        """
        match message:
            case GetWorker(worker_id):
                self.reply_to(message).send(self._records.get(worker_id))
            case ListWorkers():
                self.reply_to(message).send(self._newest_first() if self._caught_up else None)
            case HideWorker(worker_id, hidden):
                hide = partial(_with_hidden, hidden=hidden)
                self.spawn(self._change, worker_id, hide, self.reply_to(message))
            case OrderWorker(worker_id, order):
                self.spawn(self._change, worker_id, partial(_order, order), self.reply_to(message))
            case WorkersSeen():
                self.reply_to(message).send(self._caught_up)
            case _Changed(event):
                self._note(event)
            case _:
                assert_never(message)

    def _newest_first(self) -> tuple[WorkerRecord, ...]:
        records = self._records.values()
        return tuple(sorted(records, key=lambda record: record.last_seen_at, reverse=True))

    def _note(self, event: WatchEvent) -> None:
        match event:
            case Entry():
                try:
                    self._records[event.key] = decode_worker(event.value, worker_id=event.key)
                except UnreadableWorker as error:
                    log.warning("unreadable worker record", worker_id=event.key, reason=str(error))
            case Deleted():
                self._records.pop(event.key, None)
            case Reset():
                self._caught_up = False
                self._records.clear()
            case CaughtUp():
                self._caught_up = True
            case _:
                assert_never(event)

    async def _change(self, worker_id: str, change: Change, reply: Reply[WorkerRecord]) -> None:
        try:
            for _ in range(_MOST_RACES):
                try:
                    changed = await self._try_change(worker_id, change)
                except WrongRevision:
                    continue
                reply.send(changed)
                # A courtesy: the worker's next heartbeat meets the change in any case.
                self._connection.publish_soon(
                    control_subject(changed.instance_id), encode_control(LookAtRecord())
                )
                return
            reply.fail(WorkerNotChanged(f"worker {worker_id} is written without a pause"))
        except (KeyNotFound, InvalidKey):
            reply.fail(WorkerNotFound(worker_id))
        except Refusal as refusal:
            reply.fail(refusal)
        except BridgeError as error:
            reply.fail(WorkerNotChanged(str(error)))

    async def _try_change(self, worker_id: str, change: Change) -> WorkerRecord:
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
        changed = replace(change(known), updated_at=time.time())
        if revision:
            await self._bucket.update(worker_id, encode_worker(changed), revision)
        else:
            await self._bucket.create(worker_id, encode_worker(changed))
        return changed


def _with_hidden(record: WorkerRecord, *, hidden: bool) -> WorkerRecord:
    return replace(record, hidden=hidden)


def _order(order: WorkerOrder, record: WorkerRecord) -> WorkerRecord:
    if (
        not record.slots
    ):  # as workers of version 0.5.1 have none; they overwrite what they do not know
        raise WorkerNotSteerable(record.worker_id)
    return ordered(record, order)
