"""Follows the run and worker buckets and hands each change to whoever waits for it."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import assert_never

import structlog
import trio

from pyoco_server.jetstream.keyvalue import CaughtUp, Deleted, Entry, KeyValue, Reset, WatchEvent
from pyoco_server.kernel import Actor, Request
from pyoco_server.model.run import RunSnapshot, UnreadableSnapshot, decode_snapshot
from pyoco_server.model.worker import UnreadableWorker, WorkerRecord, decode_worker

log = structlog.get_logger(__name__)


class RunFeed:
    """The newest state of one run for one reader: a slow reader skips states, it never queues them."""

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        self._newest: RunSnapshot | None = None
        self._revision = 0
        self._changed = trio.Event()
        self.closed = False

    async def next(self, after: int) -> tuple[RunSnapshot | None, int]:
        """Wait for a state with a revision above ``after``.

        Returns:
            The snapshot and its revision; None for the snapshot when the run was deleted, or the feed
            has ended (`closed`).
        """
        while self._revision <= after and not self.closed:
            await self._changed.wait()
        return self._newest, self._revision

    def push(self, snapshot: RunSnapshot | None, revision: int) -> None:
        """Offer a state; an older one than the feed has is ignored."""
        if revision <= self._revision:
            return
        self._newest, self._revision = snapshot, revision
        self._wake()

    def close(self) -> None:
        """End the feed: readers are woken and get no more."""
        self.closed = True
        self._newest = None
        self._wake()

    def _wake(self) -> None:
        changed, self._changed = self._changed, trio.Event()
        changed.set()


@dataclass(frozen=True, slots=True)
class Follow(Request[RunFeed]):
    """Open a feed of one run; it starts with the next change, so read the run after opening it."""

    run_id: str


@dataclass(frozen=True, slots=True)
class Unfollow:
    """Close a feed."""

    feed: RunFeed


@dataclass(frozen=True, slots=True)
class GetWorker(Request[WorkerRecord | None]):
    """The last known record of a worker."""

    worker_id: str


@dataclass(frozen=True, slots=True)
class ProjectorLag(Request[bool]):
    """Whether the projector has caught up with both buckets."""


@dataclass(frozen=True, slots=True)
class _RunChanged:
    event: WatchEvent


@dataclass(frozen=True, slots=True)
class _WorkerChanged:
    event: WatchEvent


ProjectorMessage = Follow | Unfollow | GetWorker | ProjectorLag | _RunChanged | _WorkerChanged


class Projector(Actor[ProjectorMessage]):
    """Holds the feeds of runs and the records of workers; started anew it reads on from now."""

    def __init__(self, runs: KeyValue, workers: KeyValue) -> None:
        self._runs = runs
        self._workers_bucket = workers
        self._feeds: defaultdict[str, set[RunFeed]] = defaultdict(set)
        self._workers: dict[str, WorkerRecord] = {}
        self._runs_caught_up = False
        self._workers_caught_up = False

    async def on_start(self) -> None:
        """Begin to follow both buckets; catching up goes on in the background."""
        self.spawn(self._follow_runs)
        self.spawn(self._follow_workers)

    async def on_stop(self) -> None:
        """End every feed, so that no reader waits for a projector that is gone."""
        self._close_feeds()

    def _close_feeds(self) -> None:
        for feeds in self._feeds.values():
            for feed in feeds:
                feed.close()
        self._feeds.clear()

    async def _follow_runs(self) -> None:
        async with self._runs.watch(include_history=False) as changes:
            async for event in changes:
                await self.me.tell(_RunChanged(event))

    async def _follow_workers(self) -> None:
        async with self._workers_bucket.watch() as changes:
            async for event in changes:
                await self.me.tell(_WorkerChanged(event))

    async def handle(self, message: ProjectorMessage) -> None:
        """Apply a change or answer a reader."""
        match message:
            case Follow(run_id):
                feed = RunFeed(run_id)
                self._feeds[run_id].add(feed)
                self.reply_to(message).send(feed)
            case Unfollow(feed):
                self._drop(feed)
            case GetWorker(worker_id):
                self.reply_to(message).send(self._workers.get(worker_id))
            case ProjectorLag():
                self.reply_to(message).send(self._runs_caught_up and self._workers_caught_up)
            case _RunChanged(event):
                self._on_run(event)
            case _WorkerChanged(event):
                self._on_worker(event)
            case _:
                assert_never(message)

    def _drop(self, feed: RunFeed) -> None:
        feeds = self._feeds.get(feed.run_id)
        if feeds is not None:
            feeds.discard(feed)
            if not feeds:
                del self._feeds[feed.run_id]

    def _on_run(self, event: WatchEvent) -> None:
        match event:
            case Entry():
                feeds = self._feeds.get(event.key)
                if not feeds:
                    return
                try:
                    snapshot = decode_snapshot(event.value)
                except UnreadableSnapshot as error:
                    log.warning("unreadable snapshot", run_id=event.key, reason=str(error))
                    return
                for feed in feeds:
                    feed.push(snapshot, event.revision)
            case Deleted():
                for feed in self._feeds.get(event.key, ()):
                    feed.push(None, event.revision)
            case Reset():
                self._runs_caught_up = False
                self._close_feeds()
            case CaughtUp():
                self._runs_caught_up = True
            case _:
                assert_never(event)

    def _on_worker(self, event: WatchEvent) -> None:
        match event:
            case Entry():
                try:
                    self._workers[event.key] = decode_worker(event.value, worker_id=event.key)
                except UnreadableWorker as error:
                    log.warning("unreadable worker record", worker_id=event.key, reason=str(error))
            case Deleted():
                self._workers.pop(event.key, None)
            case Reset():
                self._workers_caught_up = False
                self._workers.clear()
            case CaughtUp():
                self._workers_caught_up = True
            case _:
                assert_never(event)
