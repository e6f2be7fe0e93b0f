"""Compares the read model with the keys of the runs bucket, for what no watch tells: keys that expired."""

from __future__ import annotations

import sqlite3
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final, assert_never

import structlog
import trio

from pyoco_server.gateway.indexer import DropAbsent, GetPosition, IndexerMessage, NotePresent
from pyoco_server.jetstream.connection import Connection
from pyoco_server.jetstream.errors import BridgeError
from pyoco_server.jetstream.subjects import bucket_keys, subject_counts
from pyoco_server.kernel import Actor, ActorRef, AskExpired

log = structlog.get_logger(__name__)

_EVERY_SECONDS: Final = 30.0
_WRITE_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True)
class Reconcile:
    """Compare now rather than when it is time."""


class Reconciler(Actor[Reconcile]):
    """Compares the number of keys, which is one cheap question, and the keys only where it differs.

    Args:
        connection: The way to NATS.
        bucket: The name of the runs bucket.
        indexer: Who writes the read model.
    """

    def __init__(
        self, connection: Connection, bucket: str, indexer: ActorRef[IndexerMessage]
    ) -> None:
        self._connection = connection
        self._bucket = bucket
        self._indexer = indexer

    async def on_start(self) -> None:
        """Begin to compare every half minute."""
        self.spawn(self._remind)

    async def _remind(self) -> None:
        while True:
            await self.me.tell(Reconcile())
            await trio.sleep(_EVERY_SECONDS)

    async def handle(self, message: Reconcile) -> None:
        """Compare; what cannot be compared now is compared the next time."""
        match message:
            case Reconcile():
                await self._reconcile()
            case _:
                assert_never(message)

    async def _reconcile(self) -> None:
        try:
            await self._compare()
        except (BridgeError, AskExpired, sqlite3.OperationalError) as error:
            log.info("read model not compared with its bucket", reason=str(error))

    async def _compare(self) -> None:
        # In this order a run that is created meanwhile can only make the bucket look larger.
        position = await self._indexer.ask(GetPosition(), within=_WRITE_SECONDS)
        state = await subject_counts(self._connection, f"KV_{self._bucket}")
        if not position.built or position.keys <= state.num_subjects:
            return
        first = True
        async with aclosing(bucket_keys(self._connection, self._bucket)) as pages:
            async for _, keys in pages:
                await self._indexer.ask(NotePresent(tuple(keys), first), within=_WRITE_SECONDS)
                first = False
        dropped = await self._indexer.ask(DropAbsent(state.last_seq), within=_WRITE_SECONDS)
        if dropped:
            log.info("runs have expired", count=dropped)
