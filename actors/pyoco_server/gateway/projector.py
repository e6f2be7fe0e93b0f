"""Follows the runs bucket: feeds whoever waits for changes, and hands them on to the read model."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import assert_never

import structlog

from pyoco_server.gateway.feeds import ListFeed, RunFeed
from pyoco_server.gateway.indexer import GetPosition, IndexerMessage, Write
from pyoco_server.gateway.read_model.rows import RunRow, row_of
from pyoco_server.gateway.read_model.writer import Changes
from pyoco_server.jetstream.keyvalue import Batch, Deleted, Entry, KeyValue
from pyoco_server.kernel import Actor, ActorRef, Request
from pyoco_server.model.run import UnreadableSnapshot, decode_snapshot

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Follow(Request[None]):
    """Feed a reader of one run; it starts with the next change, so read the run after this."""

    feed: RunFeed


@dataclass(frozen=True, slots=True)
class FollowList(Request[int]):
    """Feed a reader of a list; answered with the revision behind which it gets every change."""

    feed: ListFeed


@dataclass(frozen=True, slots=True)
class Unfollow:
    """Close a feed."""

    feed: RunFeed | ListFeed


@dataclass(frozen=True, slots=True)
class RunsRemoved:
    """Runs left the read model."""

    rows: tuple[RunRow, ...]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the projector is.

    Attributes:
        caught_up: Whether it has seen, once, everything that was stored.
        seq: The revision that it has seen last.
        identity: Which bucket that is.
    """

    caught_up: bool
    seq: int
    identity: str


@dataclass(frozen=True, slots=True)
class GetProgress(Request[Progress]):
    """How far it is."""


@dataclass(frozen=True, slots=True)
class _Arrived(Request[Changes]):
    """A batch of changes; answered with what is to be written of it."""

    batch: Batch


ProjectorMessage = Follow | FollowList | Unfollow | RunsRemoved | GetProgress | _Arrived


class Projector(Actor[ProjectorMessage]):
    """Holds the feeds; started anew it goes on where the read model is.

    Changes reach the feeds before they are written. When the indexer has no room, nothing more is
    fetched: what is not taken yet waits at the server.
    """

    def __init__(self, runs: KeyValue, indexer: ActorRef[IndexerMessage]) -> None:
        self._runs = runs
        self._indexer = indexer
        self._feeds: defaultdict[str, set[RunFeed]] = defaultdict(set)
        self._lists: set[ListFeed] = set()
        self._progress = Progress(caught_up=False, seq=0, identity="")

    async def on_start(self) -> None:
        """Begin to follow the bucket; catching up goes on in the background."""
        self.spawn(self._follow)

    async def on_stop(self) -> None:
        """End every feed, so that no reader waits for a projector that is gone."""
        self._close_feeds()
        for list_feed in self._lists:
            list_feed.close()

    def _close_feeds(self) -> None:
        for feeds in self._feeds.values():
            for feed in feeds:
                feed.close()
        self._feeds.clear()

    async def _follow(self) -> None:
        forever = float("inf")
        position = await self._indexer.ask(GetPosition(), within=forever)
        since = position.seq if position.built else None
        async with self._runs.watch_batches(since=since, identity=position.identity) as batches:
            async for batch in batches:
                changes = await self.me.ask(_Arrived(batch), within=forever)
                await self._indexer.ask(Write(changes), within=forever)

    async def handle(self, message: ProjectorMessage) -> None:
        """Apply a batch or see to a feed."""
        match message:
            case Follow(run_feed):
                self._feeds[run_feed.run_id].add(run_feed)
                self.reply_to(message).send(None)
            case FollowList(list_feed):
                self._lists.add(list_feed)
                self.reply_to(message).send(self._progress.seq)
            case Unfollow(feed):
                self._drop(feed)
            case RunsRemoved(rows):
                for list_feed in self._lists:
                    for row in rows:
                        list_feed.remove(row)
            case GetProgress():
                self.reply_to(message).send(self._progress)
            case _Arrived(batch):
                self.reply_to(message).send(self._take(batch))
            case _:
                assert_never(message)

    def _drop(self, feed: RunFeed | ListFeed) -> None:
        if isinstance(feed, ListFeed):
            self._lists.discard(feed)
            return
        feeds = self._feeds.get(feed.run_id)
        if feeds is not None:
            feeds.discard(feed)
            if not feeds:
                del self._feeds[feed.run_id]

    def _take(self, batch: Batch) -> Changes:
        changes = Changes(batch.identity, batch.anew, batch.revision, complete=batch.caught_up)
        if batch.anew and self._progress.identity:
            # The bucket is another one: whoever follows a run has to look what became of it.
            self._close_feeds()
            for list_feed in self._lists:
                list_feed.restart(batch.revision)
        for event in batch.events:
            match event:
                case Entry():
                    self._on_entry(event, changes)
                case Deleted(key, revision):
                    changes.others[key] = revision
                    changes.rows.pop(key, None)
                    for feed in self._feeds.get(key, ()):
                        feed.push(None, revision)
                case _:
                    assert_never(event)
        caught_up = batch.caught_up or (self._progress.caught_up and not batch.anew)
        self._progress = Progress(caught_up, batch.revision, batch.identity)
        return changes

    def _on_entry(self, entry: Entry, changes: Changes) -> None:
        try:
            row = row_of(entry)
            feeds = self._feeds.get(entry.key)
            if feeds:
                snapshot = decode_snapshot(entry.value)
                for feed in feeds:
                    feed.push(snapshot, entry.revision)
        except UnreadableSnapshot as error:
            log.warning("unreadable snapshot", run_id=entry.key, reason=str(error))
            changes.others[entry.key] = entry.revision
            changes.rows.pop(entry.key, None)
            return
        changes.rows[entry.key] = row
        changes.others.pop(entry.key, None)
        for list_feed in self._lists:
            list_feed.push(row)
