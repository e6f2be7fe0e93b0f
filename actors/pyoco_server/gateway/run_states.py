"""The states of one run, one after the other, for a reader that may stop waiting at any time."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from pyoco_server.gateway.feeds import RunFeed
from pyoco_server.gateway.read_side import ReadSide
from pyoco_server.model.run import RunSnapshot
from pyoco_server.store.runs import RunNotFound, RunStore


class RunStates(AsyncIterator[RunSnapshot]):
    """Made by `run_states`. A cancelled `anext` loses no state: the next one goes on where it was."""

    def __init__(self, reads: ReadSide, runs: RunStore, run_id: str) -> None:
        self._reads = reads
        self._runs = runs
        self._run_id = run_id
        self._feed: RunFeed | None = None
        self._revision = 0
        # What the feed did not tell, because it began later: the run as it is stored.
        self._unread = True
        self._first: RunSnapshot | None = None

    async def open(self) -> None:
        """Begin to follow.

        Raises:
            RunNotFound: There is no run with this id.
            BridgeError: NATS could not be asked.
            ActorDown: The projector is being restarted.
        """
        self._first = await anext(self)

    async def __anext__(self) -> RunSnapshot:
        """Wait for the next state; ends when the run was deleted.

        Raises:
            BridgeError: NATS could not be asked.
            ActorDown: The projector is being restarted.
        """
        if self._first is not None:
            first, self._first = self._first, None
            return first
        while True:
            if self._feed is None or self._feed.closed:
                self._unread = True
                self._feed = await self._reads.follow_run(self._run_id)
            if self._unread:
                snapshot = await self._stored()
            else:
                snapshot = await self._pushed(self._feed)
            if snapshot is not None:
                return snapshot

    async def _pushed(self, feed: RunFeed) -> RunSnapshot | None:
        """The next state that the feed tells; None where it has ended."""
        snapshot, revision = await feed.next(self._revision)
        if snapshot is not None:
            self._revision = revision
        elif not feed.closed:
            raise StopAsyncIteration
        return snapshot

    async def _stored(self) -> RunSnapshot | None:
        """The run as it is stored; None where that is known already."""
        try:
            stored = await self._runs.get(self._run_id)
        except RunNotFound:
            if self._revision:
                raise StopAsyncIteration from None
            raise
        self._unread = False
        if stored.revision == self._revision:
            return None  # a lower one is of a bucket that was made again
        self._revision = stored.revision
        return stored.snapshot

    async def close(self) -> None:
        """Follow the run no longer."""
        if self._feed is not None:
            await self._reads.unfollow(self._feed)


@asynccontextmanager
async def run_states(reads: ReadSide, runs: RunStore, run_id: str) -> AsyncIterator[RunStates]:
    """The states of a run from now on, the present one first."""
    states = RunStates(reads, runs, run_id)
    try:
        await states.open()
        yield states
    finally:
        await states.close()
