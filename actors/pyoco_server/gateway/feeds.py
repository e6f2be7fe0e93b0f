"""Feeds: what the projector pushes to readers that may be slow. A reader skips states, none are queued."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from typing import Final

from trio.lowlevel import ParkingLot

from pyoco_server.gateway.read_model.filters import RunFilter
from pyoco_server.gateway.read_model.rows import RunRow
from pyoco_server.gateway.read_model.writer import Changes
from pyoco_server.gateway.seen_runs import SeenRuns
from pyoco_server.jetstream.keyvalue import Batch, Deleted
from pyoco_server.model.run import RunSnapshot, UnreadableSnapshot, decode_snapshot
from pyoco_server.store.runs import RunNotFound

_MOST_WAITING: Final = 1000


class RunFeed(AsyncIterator[RunSnapshot]):
    """The states of one run for one reader. A cancelled `anext` loses none: the next goes on where it was."""

    def __init__(self, seen: SeenRuns, run_id: str) -> None:
        self.run_id = run_id
        self._seen = seen
        self._newest: RunSnapshot | None = None
        self._revision = 0
        # The revision that the reader has.
        self._taken = 0
        # How often it was begun, and with which beginning the run was looked at: what was told before that
        # is not known here.
        self._beginnings = 1
        self._looked = 0
        self._readers = ParkingLot()

    async def __anext__(self) -> RunSnapshot:
        """Wait for the next state; ends when the run was deleted.

        Raises:
            BridgeError: NATS could not be asked.
        """
        while True:
            if self._looked != self._beginnings:
                await self.look()
            elif self._revision == self._taken:
                await self._readers.park()
            elif self._newest is None:
                raise StopAsyncIteration
            else:
                self._taken = self._revision
                return self._newest

    async def look(self) -> None:
        """Take the run as it is stored.

        Raises:
            RunNotFound: There is no run with this id.
            StopAsyncIteration: There is none any more.
            BridgeError: NATS could not be asked.
        """
        beginning = self._beginnings
        try:
            stored = await self._seen.get(self.run_id)
        except RunNotFound:
            if self._taken:
                raise StopAsyncIteration from None
            raise
        if beginning == self._beginnings:
            self._looked = beginning
            self.push(stored.snapshot, stored.revision)

    def push(self, snapshot: RunSnapshot | None, revision: int) -> None:
        """Offer a state, None for that the run was deleted; an older one than the feed has is ignored."""
        if revision > self._revision:
            self._newest, self._revision = snapshot, revision
            self._readers.unpark_all()

    def restart(self) -> None:
        """Nothing was told for a while, or of another bucket: its reader has to look."""
        self._newest, self._revision = None, 0
        self._beginnings += 1
        self._readers.unpark_all()


@dataclass(frozen=True, slots=True)
class RunChanged:
    """A run of the list changed.

    Attributes:
        row: Its state.
        matches: Whether the filter has it; else it may have left the list with this change.
    """

    row: RunRow
    matches: bool

    @property
    def seq(self) -> int:
        """The revision of the change."""
        return self.row.seq


@dataclass(frozen=True, slots=True)
class RunRemoved:
    """A run is not there any more: deleted, or its time is over. ``seq`` is of its last state."""

    run_id: str
    seq: int


@dataclass(frozen=True, slots=True)
class Missed:
    """The reader was too slow, or away for too long: what it knows of the list may be wrong from here on."""

    seq: int


ListEvent = RunChanged | RunRemoved | Missed


class ListFeed:
    """The changes of a list for one reader; of each run that it has not taken yet, the newest only.

    It holds at most 1,000 runs. When more wait, it drops them and says `Missed`.
    """

    def __init__(self, run_filter: RunFilter, now: Callable[[], float] = time.time) -> None:
        self.filter = run_filter
        self._now = now
        self._waiting: dict[str, RunChanged | RunRemoved] = {}
        self._missed: Missed | None = None
        self._readers = ParkingLot()
        self.closed = False

    async def next(self) -> list[ListEvent]:
        """Wait for changes and take all that there are; empty when the feed has ended (`closed`).

        Cancelling it takes none.
        """
        while not self._waiting and self._missed is None and not self.closed:
            await self._readers.park()
        taken: list[ListEvent] = [] if self._missed is None else [self._missed]
        taken += sorted(self._waiting.values(), key=lambda change: change.seq)
        self._waiting, self._missed = {}, None
        return taken

    def push(self, row: RunRow) -> None:
        """Offer a state of a run."""
        if self.filter.concerns(row):
            self._put(row.run_id, RunChanged(row, self.filter.matches(row, self._now())))

    def remove(self, row: RunRow) -> None:
        """Tell that a run is gone; ``row`` is what it was."""
        if self.filter.concerns(row):
            self._put(row.run_id, RunRemoved(row.run_id, row.seq))

    def restart(self, seq: int) -> None:
        """Tell that everything may be different."""
        self._waiting.clear()
        self._missed = Missed(seq)
        self._readers.unpark_all()

    def close(self) -> None:
        """End the feed: its reader is woken and gets what waits, and then no more."""
        self.closed = True
        self._readers.unpark_all()

    def _put(self, run_id: str, change: RunChanged | RunRemoved) -> None:
        self._waiting[run_id] = change
        if len(self._waiting) > _MOST_WAITING:
            self.restart(change.seq)
        self._readers.unpark_all()


class Feeds:
    """The feeds that are open.

    Args:
        seen: Where to look at a run whose feed begins.
        now: Tells the server's time, in unix seconds.
    """

    def __init__(self, seen: SeenRuns, now: Callable[[], float]) -> None:
        self._seen = seen
        self._now = now
        self._runs: defaultdict[str, set[RunFeed]] = defaultdict(set)
        self._lists: set[ListFeed] = set()

    @asynccontextmanager
    async def of_run(self, run_id: str) -> AsyncIterator[RunFeed]:
        """The states of a run in the block, the present one first.

        Raises:
            RunNotFound: There is no run with this id.
            BridgeError: NATS could not be asked.
        """
        feed = RunFeed(self._seen, run_id)
        self._runs[run_id].add(feed)
        try:
            await feed.look()
            yield feed
        finally:
            self._runs[run_id].discard(feed)
            if not self._runs[run_id]:
                del self._runs[run_id]

    @contextmanager
    def of_list(self, run_filter: RunFilter) -> Iterator[ListFeed]:
        """A feed of what changes of a list in the block."""
        feed = ListFeed(run_filter, self._now)
        self._lists.add(feed)
        try:
            yield feed
        finally:
            self._lists.discard(feed)

    def push(self, batch: Batch, changes: Changes) -> None:
        """Tell of changes; what cannot be read tells followers of a run nothing."""
        for event in batch.events if self._runs else ():
            # A snapshot may be large and its followers many: it is read once for all of them.
            if followers := self._runs.get(event.key):
                with suppress(UnreadableSnapshot):
                    snapshot = None if isinstance(event, Deleted) else decode_snapshot(event.value)
                    for run_feed in followers:
                        run_feed.push(snapshot, event.revision)
        for list_feed in self._lists:
            for row in changes.rows.values():
                list_feed.push(row)

    def restart(self, seq: int) -> None:
        """The bucket is read anew: whoever follows a run has to look what became of it."""
        self._restart_runs()
        for feed in self._lists:
            feed.restart(seq)

    def remove(self, rows: tuple[RunRow, ...]) -> None:
        """Tell lists that runs are gone."""
        for feed in self._lists:
            for row in rows:
                feed.remove(row)

    def close(self) -> None:
        """The projector is gone: end lists, and have those who follow runs look by themselves."""
        self._restart_runs()
        for feed in self._lists:
            feed.close()

    def _restart_runs(self) -> None:
        for feeds in self._runs.values():
            for feed in feeds:
                feed.restart()
