"""Follows the runs bucket, once for all of a gateway: feeds, single runs, live runs and the read model."""

from __future__ import annotations

import hashlib

import structlog
import trio
from trio.lowlevel import ParkingLot

from pyoco_server.gateway.feeds import Feeds
from pyoco_server.gateway.indexer import Indexer
from pyoco_server.gateway.live_runs import LiveRuns
from pyoco_server.gateway.read_model import queries
from pyoco_server.gateway.read_model.model import ReadModel
from pyoco_server.gateway.read_model.rows import row_of
from pyoco_server.gateway.read_model.writer import Changes
from pyoco_server.gateway.rewinding import has_history
from pyoco_server.gateway.seen_runs import SeenRuns
from pyoco_server.jetstream.keyvalue import Batch, Entry, KeyValue
from pyoco_server.model.run import UnreadableSnapshot

log = structlog.get_logger(__name__)

_WRITTEN_SECONDS = 2.0


class Projector:
    """Tells everybody of a batch in one step, then has it written.

    Begun again it goes on where the read model is, which is never ahead of what the others were told.
    When the indexer has no room, nothing more is fetched: what is not taken yet waits at the server.

    Attributes:
        caught_up: Whether it has seen, since it was begun, everything that was stored.
        seq: The revision that it has seen last.
        identity: Which bucket that is; "" before it was read.
        bucket: The same in a few characters, for clients.
    """

    def __init__(
        self,
        runs: KeyValue,
        indexer: Indexer,
        model: ReadModel,
        feeds: Feeds,
        seen: SeenRuns,
        live: LiveRuns,
    ) -> None:
        self._runs = runs
        self._indexer = indexer
        self._model = model
        self._feeds = feeds
        self._seen = seen
        self._live = live
        self.caught_up = False
        self.seq = 0
        self.identity = self.bucket = ""
        self._moved = ParkingLot()

    async def reached(self, seq: int) -> None:
        """Wait until it has caught up, and seen everything up to a revision."""
        while not self.caught_up or self.seq < seq:
            await self._moved.park()

    async def follow(self) -> None:
        """Do so for as long as it is not cancelled."""
        position = await self._indexer.opened()
        if position.built and not self.identity:
            self._live.load(await self._model.read(queries.live))
        since = position.seq if position.built else None
        async with self._runs.watch_batches(
            since=since, identity=position.identity, holds=self._holds
        ) as batches:
            async for batch in batches:
                await self._indexer.put(self.take(batch))

    async def _holds(self, seq: int) -> bool:
        """Whether the bucket still has what was seen of it."""
        position = self._indexer.position
        if position is not None and position.built:
            # What is seen and not written yet cannot be looked up.
            with trio.move_on_after(_WRITTEN_SECONDS):
                await self._indexer.reached(seq)
            position = self._indexer.position
        known = min(seq, 0 if position is None else position.seq)
        return await has_history(self._runs, self._model, known)

    async def close(self) -> None:
        """End what depends on being told."""
        self.caught_up = self._live.caught_up = False
        self._seen.pause()
        self._feeds.close()

    def take(self, batch: Batch) -> Changes:
        """Tell of a batch; return what is to be written of it."""
        if batch.anew:
            self.caught_up = False
            self._feeds.restart(batch.revision)
        changes = changes_of(batch)
        self._seen.take(batch)
        self._live.apply(changes)
        self._feeds.push(batch, changes)
        self.caught_up |= batch.caught_up
        if batch.identity != self.identity:
            self.bucket = hashlib.blake2s(batch.identity.encode(), digest_size=4).hexdigest()
        self.seq, self.identity = batch.revision, batch.identity
        self._moved.unpark_all()
        return changes


def changes_of(batch: Batch) -> Changes:
    """What a batch says of runs; of each the newest state only."""
    changes = Changes(batch.identity, batch.anew, batch.revision, complete=batch.caught_up)
    for event in batch.events:
        try:
            row = row_of(event) if isinstance(event, Entry) else None
        except UnreadableSnapshot as error:
            log.warning("unreadable snapshot", run_id=event.key, reason=str(error))
            row = None
        if row is None:
            changes.rows.pop(event.key, None)
            changes.others[event.key] = event.revision
        else:
            changes.others.pop(event.key, None)
            changes.rows[event.key] = row
    return changes
