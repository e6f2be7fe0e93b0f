"""Keeps the worker's record: alive, what its slots run, how it stopped."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import assert_never

import structlog
import trio
from msgspec.structs import replace

from pyoco_server.jetstream.connection import Connection
from pyoco_server.jetstream.errors import BridgeError, KeyNotFound, WrongRevision
from pyoco_server.jetstream.keyvalue import KeyValue
from pyoco_server.kernel import Actor, ActorDown, ActorRef
from pyoco_server.model.worker import (
    SlotRecord,
    UnreadableWorker,
    WheelSync,
    WorkerOrder,
    WorkerRecord,
    WorkerState,
    decode_worker,
    encode_worker,
    keep_orders,
    ordered,
    seen,
)
from pyoco_server.settings import Settings
from pyoco_server.store.control import LookAtRecord, control_subject, encode_control
from pyoco_server.worker.identity import WorkerIdTaken, WorkerName, answer_presence, is_present
from pyoco_server.worker.messages import LookAgain, Ordered, Stopping, WheelsReported
from pyoco_server.worker.slot_board import SlotBoard

log = structlog.get_logger(__name__)

# Under load a worker starts and ends hundreds of runs a second: its record is written once in one.
_SPACING_SECONDS = 1.0
_GATHER_SECONDS = 0.05
_FIRST_SECONDS = 2.0
_RETRY_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class _Beat:
    """Time to write the record."""


HeartbeatMessage = LookAgain | Stopping | WheelsReported | _Beat


class Heartbeat(Actor[HeartbeatMessage]):
    """Writes the worker's record every interval, and soon after a slot changed.

    Args:
        settings: The bucket, the interval, and whether the worker takes wheels.
        name: The worker's; where another process has it and lives, nothing is written and nothing is pulled.
        dispatcher: Told the operator's orders.
    """

    def __init__(
        self,
        connection: Connection,
        settings: Settings,
        *,
        name: WorkerName,
        instance_id: str,
        tags: Sequence[str],
        board: SlotBoard,
        dispatcher: ActorRef[Ordered],
    ) -> None:
        self._connection = connection
        self._name = name
        self._dispatcher = dispatcher
        self._told_to_wait = False
        # Whether the last record that was written is this process's, as far as is known.
        self._ours = False
        self._orders: Ordered | None = None
        self._stopping = False
        self._bucket = KeyValue(connection, settings.workers_kv_bucket)
        self._interval = settings.worker_heartbeat_interval_sec
        wheel_sync = settings.wheel_sync_enabled
        self._record = WorkerRecord(
            worker_id=name.worker_id,
            instance_id=instance_id,
            tags=list(tags),
            slots=list(board.slots),
            drain_timeout_sec=settings.worker_drain_timeout_sec,
            cancel_grace_period_sec=settings.cancel_grace_period_sec,
            wheel_sync=WheelSync(
                enabled=wheel_sync, last_result="idle" if wheel_sync else "disabled"
            ),
        )
        self._board = board
        self._revision: int | None = None
        self._written_at = -math.inf
        # Whether it is told already that NATS takes no record: two tries a second are made meanwhile.
        self._told_away = False

    async def on_start(self) -> None:
        """Begin to beat; the first write happens as soon as NATS is connected."""
        self._board.changed.set()
        self.spawn(answer_presence, self._connection, self._record.instance_id)
        self.spawn(self._beat)

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
        # At the start the connection is just being made, which is no news.
        with suppress(BridgeError):
            await self._connection.wait_connected(within=_FIRST_SECONDS)
        while True:
            wait = self._interval if self._revision is not None else _RETRY_SECONDS
            with trio.move_on_after(min(wait, self._interval)):
                await self._board.changed.wait()
                if self._revision is not None:
                    next_at = self._written_at + _SPACING_SECONDS
                    await trio.sleep(max(_GATHER_SECONDS, next_at - trio.current_time()))
            self._board.changed = trio.Event()
            await self.me.tell(_Beat())

    async def handle(self, message: HeartbeatMessage) -> None:
        """Write the record, or take in what belongs into it."""
        match message:
            case WheelsReported(report):
                self._record = replace(self._record, wheel_sync=report)
                self._board.changed.set()
            case LookAgain():
                self._orders = self._revision = None
                self._board.changed.set()
            case Stopping():
                self._stopping = True
                self._board.changed.set()
            case _Beat():
                await self._write()
            case _:
                assert_never(message)

    async def _write(self) -> None:
        """Store the record, keeping what the operator set in the stored one; pass orders on."""
        self._written_at = trio.current_time()
        record = seen(self._board.shown_in(self._record), time.time())
        if self._stopping:
            record = replace(record, draining=True)
        try:
            for _ in range(5):
                if self._revision is None:
                    adopted = await self._adopt(record)
                    if adopted is None:
                        return
                    record = adopted
                try:
                    self._revision = await self._bucket.update(
                        record.worker_id, encode_worker(record), self._revision or 0
                    )
                except WrongRevision:
                    self._revision = None
                else:
                    self._record, self._ours = record, True
                    self._told_away = False
                    await self._pass_orders_on()
                    return
        except BridgeError as error:
            self._revision = None  # whether this write was stored is open: look before the next one
            if not self._told_away:
                log.info("heartbeat not written", worker_id=record.worker_id, reason=str(error))
            self._told_away = True

    async def _pass_orders_on(self) -> None:
        orders = Ordered(self._record.paused, self._record.draining)
        if orders != self._orders and self._record.state.active:
            self._orders = orders
            with suppress(ActorDown):
                await self._dispatcher.tell(orders)

    async def _adopt(self, record: WorkerRecord) -> WorkerRecord | None:
        """Look at the stored record: its revision, and what belongs to the operator.

        None where it is that of another process that lives.
        """
        try:
            entry = await self._bucket.get(record.worker_id)
        except KeyNotFound:
            return record
        try:
            stored = decode_worker(entry.value, worker_id=record.worker_id)
        except UnreadableWorker:
            self._revision = entry.revision
            return record
        other = stored.instance_id != record.instance_id
        if other and stored.state.active and await is_present(self._connection, stored.instance_id):
            await self._meet(stored, entry.revision)
            return None
        if other and self._ours:
            self._ours = False
            log.warning(
                "another process writes this worker's record: each worker needs an id of its own",
                worker_id=record.worker_id,
                instance_id=stored.instance_id,
            )
        self._revision = entry.revision
        record = keep_orders(record, stored)
        return replace(record, draining=record.draining or self._stopping)

    async def _meet(self, other: WorkerRecord, revision: int) -> None:
        """Wait for another process of the name to end, where it is to end; else refuse the name."""
        if self._name.refusal is not None or self._stopping:
            return
        if not (self._name.replace or other.draining):
            self._name.refusal = WorkerIdTaken(other.worker_id, other.instance_id)
            log.error("worker id taken", worker_id=other.worker_id, reason=str(self._name.refusal))
            with suppress(ActorDown):
                await self._dispatcher.tell(Ordered(paused=False, draining=True))
            return
        if not other.draining:
            order = encode_worker(ordered(other, WorkerOrder.DRAIN))
            await self._bucket.update(other.worker_id, order, revision)
            await self._connection.publish(
                control_subject(other.instance_id), encode_control(LookAtRecord())
            )
        if not self._told_to_wait:
            self._told_to_wait = True
            log.info(
                "waiting for another worker of this id to end",
                worker_id=other.worker_id,
                instance_id=other.instance_id,
            )
