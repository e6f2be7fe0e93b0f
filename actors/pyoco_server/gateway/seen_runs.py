"""Single runs, answered from what the watch of their bucket brought: no answer is older than an earlier one.

What this process was told of a run, be it by NATS's answer to a read or by the acknowledgement of a write,
it remembers until the watch has shown as much (`SeenRuns.note`). A run of which it was told more than it saw
is read from NATS.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, NamedTuple

import trio

from pyoco_server.jetstream.connection import Connection
from pyoco_server.jetstream.errors import Unanswered
from pyoco_server.jetstream.keyvalue import Batch, Deleted, Entry
from pyoco_server.model.run import decode_snapshot
from pyoco_server.store.runs import RunNotFound, RunStore, StoredRun

MOST_BYTES: Final = 16 * 1024 * 1024
# What is kept of a run takes about so much besides its snapshot.
_KEPT_BYTES: Final = 400
# Of more runs than these it is not remembered singly what was told.
_MOST_TOLD: Final = 20_000
# A watch that has not shown for so long what was told is not relied on.
_STALLED_SECONDS: Final = 1.0
_PATIENCE_SECONDS: Final = 5.0
_LOOK_SECONDS: Final = 0.02


class _Told(NamedTuple):
    revision: int
    since: float


@dataclass(eq=False, slots=True)
class _Reading:
    """A read of a run that is under way, and the newest revision of it that was told meanwhile."""

    newest: int


class SeenRuns:
    """The last snapshots that the watch brought, as many as fit; written by the projector.

    Args:
        runs: Where a run is read that cannot be answered from here.

    Attributes:
        newest: The newest revision that was told, of whichever run.
    """

    def __init__(
        self, connection: Connection, runs: RunStore, most_bytes: int = MOST_BYTES
    ) -> None:
        self._connection = connection
        self._runs = runs
        self._most_bytes = most_bytes
        self.newest = 0
        self._bytes = 0
        # The least recently used ones come first.
        self._kept: OrderedDict[str, Entry] = OrderedDict()
        # What was told and lies behind ``_reached``, the oldest first. What lies before it is kept as new as
        # it was told, or not at all.
        self._told: dict[str, _Told] = {}
        self._readings: dict[str, set[_Reading]] = {}
        # How far the watch is, and how far it has ever been: less far when it was begun again.
        self._position = 0
        self._reached = 0
        # The connection over which the watch has caught up.
        self._epoch = -1

    async def get(self, run_id: str) -> StoredRun:
        """The run, at least as new as this process was ever told.

        Where the storage of NATS went back in time, that lasts until the watch has noticed it.

        Raises:
            RunNotFound: There is none with this id.
            UnreadableSnapshot: What is stored is no snapshot.
            Unanswered: For five seconds NATS told older states than before.
            BridgeError: NATS could not be asked.
        """
        deadline = trio.current_time() + _PATIENCE_SECONDS
        while True:
            kept = self._known(run_id)
            if kept is not None:
                return StoredRun(decode_snapshot(kept.value), kept.revision, kept.created)
            with self._reading(run_id) as reading:
                before = reading.newest
                try:
                    stored = await self._runs.get(run_id)
                except RunNotFound as missing:
                    # Without a revision it left no trace, so what was known before says nothing more.
                    if missing.revision >= reading.newest or (
                        missing.revision == 0 and reading.newest == before
                    ):
                        self.forget(run_id, reading.newest)
                        self.note(run_id, missing.revision)
                        raise
                else:
                    if stored.revision >= reading.newest:
                        return stored
            # Somebody was told a newer state meanwhile, or the storage is an older one.
            if trio.current_time() > deadline:
                raise Unanswered(f"NATS tells an older state of run {run_id} than before")
            await trio.sleep(_LOOK_SECONDS)

    def note(self, run_id: str, revision: int) -> None:
        """This process is told that a run has, or had, this revision."""
        self.newest = max(self.newest, revision)
        for reading in self._readings.get(run_id, ()):
            reading.newest = max(reading.newest, revision)
        if revision <= self._reached:
            self._drop_below(run_id, revision)
            return
        told = self._told.get(run_id)
        if told is None:
            self._told[run_id] = _Told(revision, trio.current_time())
            if len(self._told) > _MOST_TOLD:
                self._reached = max(told.revision for told in self._told.values())
                self._told.clear()
                self._clear()
        elif revision > told.revision:
            self._told[run_id] = _Told(revision, told.since)

    # For the projector -------------------------------------------------------------------------------

    def take(self, batch: Batch) -> None:
        """Keep what the watch brought."""
        if batch.anew:
            self._clear()
            self._told.clear()
            self._reached, self._epoch = 0, -1
            self.newest = 0
            for reading in (each for readings in self._readings.values() for each in readings):
                reading.newest = 0
        for event in batch.events:
            self._keep(event)
        self._position = batch.revision
        self._reached = max(self._reached, batch.revision)
        if batch.caught_up:
            self._epoch = self._connection.epoch
        while self._told:
            run_id, told = next(iter(self._told.items()))
            if told.revision > self._position:
                break
            # It was replaced, or has gone, before it could be shown.
            del self._told[run_id]
            self._drop_below(run_id, told.revision)

    def disbelieve(self, last: int, known: int) -> None:
        """The bucket had not got beyond ``last``: what was told behind it before was of another one.

        ``known`` is what `newest` was when the bucket was asked: what was told since is behind that.
        """
        if self.newest == known:
            self.newest = min(known, last)
        self._told = {
            run_id: told for run_id, told in self._told.items() if not last < told.revision <= known
        }

    def pause(self) -> None:
        """The watch has ended: nothing is answered from here until it has caught up again."""
        self._epoch = -1

    def forget(self, run_id: str, revision: int) -> None:
        """The run, whose last state this was, is gone, in a way that watches do not see."""
        self._drop_below(run_id, revision + 1)
        told = self._told.get(run_id)
        if told is not None and told.revision <= revision:
            del self._told[run_id]

    # -------------------------------------------------------------------------------------------------

    def _known(self, run_id: str) -> Entry | None:
        kept = self._kept.get(run_id)
        if kept is None or not self._reliable():
            return None
        told = self._told.get(run_id)
        if told is not None and told.revision > kept.revision:
            return None
        if kept.expires_at is not None and kept.expires_at <= self._connection.clock.now():
            return None
        self._kept.move_to_end(run_id)
        return kept

    def _reliable(self) -> bool:
        status = self._connection.status
        if not (status.connected and status.epoch == self._epoch):
            return False
        if self._position < self._reached:
            return False
        oldest = next(iter(self._told.values()), None)
        return oldest is None or trio.current_time() - oldest.since < _STALLED_SECONDS

    @contextmanager
    def _reading(self, run_id: str) -> Iterator[_Reading]:
        kept, told = self._kept.get(run_id), self._told.get(run_id)
        known = (0 if kept is None else kept.revision, 0 if told is None else told.revision)
        reading = _Reading(max(known))
        readings = self._readings.setdefault(run_id, set())
        readings.add(reading)
        try:
            yield reading
        finally:
            readings.discard(reading)
            if not readings:
                self._readings.pop(run_id, None)

    def _keep(self, event: Entry | Deleted) -> None:
        run_id, revision = event.key, event.revision
        for reading in self._readings.get(run_id, ()):
            reading.newest = max(reading.newest, revision)
        told = self._told.get(run_id)
        if told is not None and told.revision <= revision:
            del self._told[run_id]
        kept = self._kept.get(run_id)
        if kept is not None and kept.revision >= revision:
            return  # read again by a projector that was started again
        self._discard(run_id)
        if isinstance(event, Deleted):
            return  # another gateway may use the id again, and a new run is found at once everywhere
        self._kept[run_id] = event
        self._bytes += _size(event)
        while self._bytes > self._most_bytes:
            self._discard(next(iter(self._kept)))

    def _drop_below(self, run_id: str, revision: int) -> None:
        kept = self._kept.get(run_id)
        if kept is not None and kept.revision < revision:
            self._discard(run_id)

    def _discard(self, run_id: str) -> None:
        kept = self._kept.pop(run_id, None)
        if kept is not None:
            self._bytes -= _size(kept)

    def _clear(self) -> None:
        self._kept.clear()
        self._bytes = 0


def _size(kept: Entry) -> int:
    return _KEPT_BYTES + len(kept.value)
