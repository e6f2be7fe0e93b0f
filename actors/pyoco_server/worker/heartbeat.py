"""Keeps the worker's record: alive, what its slots run, how it stopped."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import assert_never

import structlog
import trio
from msgspec.structs import replace

from pyoco_server.jetstream.errors import BridgeError, KeyNotFound, WrongRevision
from pyoco_server.jetstream.keyvalue import KeyValue
from pyoco_server.kernel import Actor, ActorDown, ActorRef
from pyoco_server.model.worker import (
    SlotRecord,
    UnreadableWorker,
    WheelSync,
    WorkerRecord,
    WorkerState,
    decode_worker,
    encode_worker,
    keep_orders,
    seen,
)
from pyoco_server.worker.messages import (
    LookAgain,
    Ordered,
    SlotChanged,
    Stopping,
    TellOrders,
    WheelsReported,
)

log = structlog.get_logger(__name__)

# Changes of slots are written together: under load a worker starts and ends hundreds of runs a second.
_GATHER_SECONDS = 0.2
_RETRY_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class _Beat:
    """Time to write the record."""


HeartbeatMessage = LookAgain | Stopping | TellOrders | SlotChanged | WheelsReported | _Beat


class Heartbeat(Actor[HeartbeatMessage]):
    """Writes the worker's record every interval, and soon after a slot changed.

    Args:
        bucket: The workers bucket.
        worker_id: The key of the record.
        instance_id: Which process this is.
        tags: What the worker takes.
        slots: How many slots it has.
        interval: Seconds between two heartbeats.
        wheel_sync: Whether the worker takes wheels.
        dispatcher: Told the operator's orders.
    """

    def __init__(
        self,
        bucket: KeyValue,
        *,
        worker_id: str,
        instance_id: str,
        tags: Sequence[str],
        slots: int,
        interval: float,
        wheel_sync: bool = False,
        dispatcher: ActorRef[Ordered],
    ) -> None:
        self._dispatcher = dispatcher
        self._orders: Ordered | None = None
        self._stopping = False
        self._bucket = bucket
        self._interval = interval
        self._record = WorkerRecord(
            worker_id=worker_id,
            instance_id=instance_id,
            tags=list(tags),
            slots=[SlotRecord(index=index) for index in range(slots)],
            wheel_sync=WheelSync(
                enabled=wheel_sync, last_result="idle" if wheel_sync else "disabled"
            ),
        )
        self._revision: int | None = None
        self._due = trio.Event()

    async def on_start(self) -> None:
        """Begin to beat; the first write happens at once."""
        self.spawn(self._beat)
        self._due.set()

    async def on_stop(self) -> None:
        """Say that the worker stopped in good order."""
        now = time.time()
        self._record = replace(
            self._record,
            state=WorkerState.STOPPED_GRACEFUL,
            current_run_id=None,
            slots=[SlotRecord(index=slot.index) for slot in self._record.slots],
            stopped_at=now,
            stop_reason="graceful_shutdown",
        )
        with trio.move_on_after(2.0):
            await self._write()

    async def _beat(self) -> None:
        while True:
            wait = self._interval if self._revision is not None else _RETRY_SECONDS
            with trio.move_on_after(min(wait, self._interval)):
                await self._due.wait()
                await trio.sleep(_GATHER_SECONDS if self._revision is not None else 0)
            self._due = trio.Event()
            await self.me.tell(_Beat())

    async def handle(self, message: HeartbeatMessage) -> None:
        """Take in what a slot says, or write the record."""
        match message:
            case SlotChanged():
                self._record = _with_slot(self._record, message)
                self._due.set()
            case WheelsReported(report):
                self._record = replace(self._record, wheel_sync=report)
                self._due.set()
            case TellOrders():
                self._orders = None
                self._look_again()
            case LookAgain():
                self._look_again()
            case Stopping():
                self._stopping = True
                self._due.set()
            case _Beat():
                await self._write()
            case _:
                assert_never(message)

    def _look_again(self) -> None:
        self._revision = None
        self._due.set()

    async def _write(self) -> None:
        """Store the record, keeping what the operator set in the stored one; pass orders on."""
        record = seen(self._record, time.time())
        if self._stopping:
            record = replace(record, draining=True)
        try:
            for _ in range(5):
                if self._revision is None:
                    record = await self._adopt(record)
                try:
                    self._revision = await self._bucket.update(
                        record.worker_id, encode_worker(record), self._revision or 0
                    )
                except WrongRevision:
                    self._revision = None
                else:
                    self._record = record
                    await self._pass_orders_on()
                    return
        except BridgeError as error:
            self._revision = None  # whether this write was stored is open: look before the next one
            log.info("heartbeat not written", worker_id=record.worker_id, reason=str(error))

    async def _pass_orders_on(self) -> None:
        orders = Ordered(self._record.paused, self._record.draining)
        if orders != self._orders and self._record.state.active:
            self._orders = orders
            with suppress(ActorDown):
                await self._dispatcher.tell(orders)

    async def _adopt(self, record: WorkerRecord) -> WorkerRecord:
        """Look at the stored record: its revision, and what belongs to the operator."""
        try:
            entry = await self._bucket.get(record.worker_id)
        except KeyNotFound:
            return record
        self._revision = entry.revision
        try:
            record = keep_orders(record, decode_worker(entry.value, worker_id=record.worker_id))
            return replace(record, draining=record.draining or self._stopping)
        except UnreadableWorker:
            return record


def _with_slot(record: WorkerRecord, change: SlotChanged) -> WorkerRecord:
    changed = SlotRecord(
        index=change.index,
        run_id=change.run_id,
        attempt=change.attempt,
        pid=change.pid,
        busy_since=change.since,
    )
    slots = [changed if slot.index == change.index else slot for slot in record.slots]
    busy = [slot for slot in slots if slot.run_id is not None]
    newest = max(busy, key=lambda slot: slot.busy_since or 0.0, default=None)
    record = replace(
        record,
        slots=slots,
        state=WorkerState.IDLE if newest is None else WorkerState.RUNNING,
        current_run_id=None if newest is None else newest.run_id,
    )
    if change.since is not None:
        record = replace(record, last_run_started_at=change.since)
    if change.last is not None:
        record = replace(
            record,
            last_run_id=change.last.run_id,
            last_run_status=change.last.status,
            last_run_finished_at=change.last.finished_at,
        )
    return record
