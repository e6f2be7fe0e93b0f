"""The states of one run, one after the other, for a reader that may stop waiting at any time."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from pyoco_server.gateway.feeds import Feeds
from pyoco_server.gateway.seen_runs import SeenRuns
from pyoco_server.model.run import RunSnapshot
from pyoco_server.store.runs import RunNotFound


class RunStates(AsyncIterator[RunSnapshot]):
    """Made by `run_states`. A cancelled `anext` loses no state: the next one goes on where it was."""

    def __init__(self, feeds: Feeds, seen: SeenRuns, run_id: str) -> None:
        self._feeds = feeds
        self._seen = seen
        self._run_id = run_id
        self._feed = feeds.open_run(run_id)
        self._revision = 0
        # What the feed did not tell, because it began later: the run as it is stored.
        self._unread = True
        self._first: RunSnapshot | None = None

    async def open(self) -> None:
        """Begin to follow.

        Raises:
            RunNotFound: There is no run with this id.
            BridgeError: NATS could not be asked.
        """
        self._first = await anext(self)

    async def __anext__(self) -> RunSnapshot:
        """Wait for the next state; ends when the run was deleted.

        Raises:
            BridgeError: NATS could not be asked.
        """
        if self._first is not None:
            first, self._first = self._first, None
            return first
        while True:
            if self._feed.closed:
                self._unread = True
                self._feed = self._feeds.open_run(self._run_id)
            if self._unread:
                snapshot = await self._stored()
            else:
                snapshot = await self._pushed()
            if snapshot is not None:
                return snapshot

    async def _pushed(self) -> RunSnapshot | None:
        """The next state that the feed tells; None where it has ended."""
        snapshot, revision = await self._feed.next(self._revision)
        if snapshot is not None:
            self._revision = revision
        elif not self._feed.closed:
            raise StopAsyncIteration
        return snapshot

    async def _stored(self) -> RunSnapshot | None:
        """The run as it is stored; None where that is known already."""
        try:
            stored = await self._seen.get(self._run_id)
        except RunNotFound:
            if self._revision:
                raise StopAsyncIteration from None
            raise
        self._unread = False
        if stored.revision == self._revision:
            return None  # a lower one is of a bucket that was made again
        self._revision = stored.revision
        return stored.snapshot

    def close(self) -> None:
        """Follow the run no longer."""
        self._feeds.close_run(self._feed)


@asynccontextmanager
async def run_states(feeds: Feeds, seen: SeenRuns, run_id: str) -> AsyncIterator[RunStates]:
    """The states of a run from now on, the present one first; raises as `RunStates.open`."""
    states = RunStates(feeds, seen, run_id)
    try:
        await states.open()
        yield states
    finally:
        states.close()
