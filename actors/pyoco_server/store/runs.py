"""The stored state of runs: every write of a snapshot goes through here, and each is fenced.

A write names the revision that it was made from, so that a stale one is refused by the bucket. What
may follow what is decided by the pure rules of `pyoco_server.model.life`.
"""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeVar, assert_never

import structlog
from msgspec import structs

from pyoco_server.jetstream.errors import KeyNotFound, Unanswered, WrongRevision
from pyoco_server.jetstream.follow import CaughtUp, Reset
from pyoco_server.jetstream.keyvalue import Deleted, Entry, KeyValue
from pyoco_server.jetstream.watch import WatchEvent
from pyoco_server.kernel import Refusal
from pyoco_server.model.event import is_first, lateness, state_changed
from pyoco_server.model.run import (
    RunSnapshot,
    RunStatus,
    SnapshotTooLarge,
    UnreadableSnapshot,
    decode_snapshot,
    encode_snapshot,
    without_records,
)
from pyoco_server.store.fenced import write_fenced
from pyoco_server.store.journal import Journal

T = TypeVar("T")

log = structlog.get_logger(__name__)

# A reader who lost a race reads again; more than this many lost races in a row means that something
# writes the key in a tight loop, which nothing of ours does.
_MAX_RACES = 100
# What is left of a submission that was taken back: far longer than any of its writes is under way.
_MARKER_SECONDS = 3600
# For one write, retries included.
_WRITE_SECONDS = 5.0
# For a batch to be acknowledged; each of its messages can be tried by itself behind it.
BATCH_SECONDS = 2.0


class RunNotFound(Refusal):
    """No run has this id.

    Args:
        run_id: The id.
        revision: What a write that creates it has to name; see `KeyNotFound`.
    """

    def __init__(self, run_id: str, revision: int = 0) -> None:
        super().__init__(f"run {run_id!r} not found")
        self.run_id = run_id
        self.revision = revision


@dataclass(frozen=True, slots=True)
class StoredRun:
    """A snapshot and the revision under which the bucket holds it."""

    snapshot: RunSnapshot
    revision: int
    stored_at: float | None = field(default=None, compare=False)
    """When it was stored, in unix seconds of the server's clock; known of what was read."""


class RunStore:
    """Reads and compare-and-set writes of run snapshots.

    Each of them raises a `BridgeError` where NATS refused or could not be asked.

    Args:
        bucket: The runs bucket.
        max_bytes: Limit of an encoded snapshot, in bytes; 0 for what the server takes in a message.
        ttl_seconds: How long an ended run is kept; 0 for ever.
        journal: Where each change of a run's state is told by whoever won the write.

    Attributes:
        on_told: Called with run id and revision when NATS answers a read or acknowledges a write.
    """

    def __init__(
        self,
        bucket: KeyValue,
        *,
        max_bytes: int,
        ttl_seconds: float = 0.0,
        journal: Journal | None = None,
    ) -> None:
        self._bucket = bucket
        self._journal = journal
        self.on_told: Callable[[str, int], None] = lambda _run_id, _revision: None
        self._max_bytes = max_bytes
        # Whole seconds, as the server wants them.
        self._ttl = math.ceil(ttl_seconds) or None

    def now(self) -> float:
        """The time of the server, which all that write share, in unix seconds."""
        return self._bucket.now()

    async def learn_time(self) -> None:
        """Make sure that `now` is the server's."""
        await self._bucket.learn_time()

    async def get(self, run_id: str) -> StoredRun:
        """Read a run.

        Raises:
            RunNotFound: There is none with this id.
            UnreadableSnapshot: What is stored is no snapshot.
        """
        try:
            entry = await self._bucket.get(run_id)
        except KeyNotFound as missing:
            raise RunNotFound(run_id, missing.revision) from None
        self.on_told(run_id, entry.revision)
        return StoredRun(decode_snapshot(entry.value), entry.revision, entry.created)

    @property
    def max_snapshot_bytes(self) -> int | None:
        """The largest snapshot that can be stored now: by the setting and by what NATS takes."""
        limits = [self._max_bytes or None, self._bucket.max_value_bytes]
        return min((limit for limit in limits if limit is not None), default=None)

    async def create(
        self,
        snapshot: RunSnapshot,
        *,
        encoded: bytes | None = None,
        after: int = 0,
        unsure: bool = False,
    ) -> StoredRun:
        """Store the first snapshot of a run; its event is told by whoever moves the run on.

        Args:
            snapshot: The snapshot.
            encoded: The same, written, where the caller knows that it fits.
            after: `RunNotFound.revision`, where the id was taken once.
            unsure: This was tried before, and may be stored.

        Raises:
            WrongRevision: The id is taken.
            SnapshotTooLarge: It does not fit.
            BridgeError: NATS refused or could not be asked; see `Unanswered` for "perhaps stored".
        """
        if encoded is None:
            encoded = encode_snapshot(snapshot, max_bytes=self.max_snapshot_bytes or 0)
        revision = await write_fenced(
            self._bucket, snapshot.run_id, encoded, after, unsure=unsure, within=_WRITE_SECONDS
        )
        self.on_told(snapshot.run_id, revision)
        return StoredRun(snapshot, revision)

    async def create_all(self, drafts: Sequence[tuple[RunSnapshot, bytes]]) -> list[StoredRun]:
        """Store the first snapshots of runs, given with their encoding: all of them, or none.

        Raises:
            BatchRefused: NATS takes them by themselves only; none is stored.
            Unanswered: They may be stored, or will be.
            BridgeError: NATS could not be asked; none is stored.
        """
        values = [(snapshot.run_id, encoded, 0) for snapshot, encoded in drafts]
        revisions = await self._bucket.update_all(values, within=BATCH_SECONDS)
        stored = [
            StoredRun(snapshot, revision)
            for (snapshot, _), revision in zip(drafts, revisions, strict=True)
        ]
        for run in stored:
            self.on_told(run.snapshot.run_id, run.revision)
        return stored

    async def replace(self, stored: StoredRun, snapshot: RunSnapshot) -> StoredRun:
        """Store ``snapshot`` in the place of ``stored``.

        A write whose answer was lost is looked up and tried again, so that a caller learns whether it
        holds. Cancelled, it may or may not have been stored.

        Raises:
            WrongRevision: Somebody else wrote first.
            SnapshotTooLarge: It does not fit.
            Unanswered: Even looking it up got no answer within the time limit.
        """
        value = self._encode(stored, snapshot)
        run_id, before = snapshot.run_id, stored.revision
        ttl = self._ttl if snapshot.status.terminal else None
        revision = await write_fenced(
            self._bucket, run_id, value, before, ttl_seconds=ttl, within=_WRITE_SECONDS
        )
        self.on_told(run_id, revision)
        if self._journal is not None and snapshot.late != stored.snapshot.late:
            for late in lateness(stored.snapshot, snapshot, at=self.now()):
                self._journal.add(run_id, late)
        if self._journal is not None and _is_news(stored.snapshot, snapshot):
            now = self.now()
            if is_first(stored.snapshot):
                first = state_changed(stored.snapshot, stored.revision, at=now)
                self._journal.add(run_id, first)
            self._journal.add(run_id, state_changed(snapshot, revision, at=now))
        return StoredRun(snapshot, revision)

    def _encode(self, stored: StoredRun, snapshot: RunSnapshot) -> bytes:
        """Write a snapshot within the limit; what moves a run on may go beyond, up to what NATS takes.

        It was accepted when the limit was another one, or by a version without one, and has to end. In the
        worst case its params and artifacts give way; its job has the params.
        """
        limit = self.max_snapshot_bytes or 0
        try:
            return encode_snapshot(snapshot, max_bytes=limit)
        except SnapshotTooLarge:
            if not _is_news(stored.snapshot, snapshot) and _fits(stored.snapshot, limit):
                raise
        most = self._bucket.max_value_bytes or 0
        bare = without_records(snapshot)
        try:
            return encode_snapshot(bare, max_bytes=most)
        except SnapshotTooLarge:
            if not (bare.status.terminal or bare.status is RunStatus.CANCELLING):
                raise
        least = structs.replace(
            bare,
            params={},
            params_left_out=True if bare.params else bare.params_left_out,
            artifacts=[],
            artifacts_refused=[],
            results=[],
            attempts=[],
        )
        return encode_snapshot(least, max_bytes=most)

    async def change(
        self,
        run_id: str,
        rule: Callable[[RunSnapshot], tuple[RunSnapshot | None, T]],
        *,
        known: StoredRun | None = None,
    ) -> tuple[StoredRun, T]:
        """Apply a rule until its write wins.

        Args:
            run_id: The run.
            rule: Takes the stored snapshot; returns the one to store (None leaves it) and a result.
            known: What the caller believes to be stored; saves the first read.

        Returns:
            What is stored in the end, and the rule's last result.

        Raises:
            RunNotFound: There is no such run, or not any more.
            UnreadableSnapshot: What is stored is no snapshot.
        """
        for _ in range(_MAX_RACES):
            stored = known or await self.get(run_id)
            snapshot, result = rule(stored.snapshot)
            if snapshot is not None and snapshot != stored.snapshot:
                try:
                    return await self.replace(stored, snapshot), result
                except WrongRevision:
                    known = None
            elif known is None:
                return stored, result
            else:
                known = None  # a rule that leaves things as they are must have seen what is stored
        raise Unanswered(f"run {run_id} is written by others faster than it can be read")

    @asynccontextmanager
    async def watch(self, run_id: str) -> AsyncIterator[AsyncIterator[RunSnapshot]]:
        """Follow a run: its state now and each one after; the iterator ends when the run is gone.

        It goes on over lost connections. States in between may be skipped. Raises as `get`.
        """
        stored = await self.get(run_id)
        async with (
            self._bucket.watch(run_id) as events,
            aclosing(_snapshots(stored, events)) as snapshots,
        ):
            yield snapshots

    async def has_ended(self, run_id: str) -> bool:
        """Whether the run is there and terminal."""
        stored = await self.find(run_id)
        return stored is not None and stored.snapshot.status.terminal

    async def find(self, run_id: str) -> StoredRun | None:
        """Read a run; None where there is none with this id, or none that can be read."""
        try:
            return await self.get(run_id)
        except (RunNotFound, UnreadableSnapshot):
            return None

    async def is_gone(self, run_id: str) -> bool:
        """Whether there is no run with this id; one that cannot be read is there."""
        try:
            await self.get(run_id)
        except RunNotFound:
            return True
        except UnreadableSnapshot:
            pass
        return False

    async def forget(self, run_id: str) -> None:
        """Delete an ended run for good; nothing happens to one that has not ended."""
        if await self.has_ended(run_id):
            await self._bucket.forget(run_id)

    async def forbid(self, missing: RunNotFound) -> bool:
        """Leave a marker where there is no run, so that a write still under way creates none.

        Returns:
            False where a run has come to be there meanwhile.
        """
        try:
            revision = await self._bucket.delete(
                missing.run_id, missing.revision, marker_seconds=_MARKER_SECONDS
            )
        except WrongRevision:
            return False
        self.on_told(missing.run_id, revision)
        return True

    async def withdraw(self, stored: StoredRun) -> bool:
        """Take back a snapshot that nobody has touched but time; return whether it is gone.

        False means that somebody did, so the run lives on.
        """
        run_id = stored.snapshot.run_id
        for _ in range(_MAX_RACES):
            try:
                revision = await self._bucket.delete(
                    run_id, stored.revision, marker_seconds=_MARKER_SECONDS
                )
            except WrongRevision:
                try:
                    found = await self.get(run_id)
                except RunNotFound:
                    return True
                except UnreadableSnapshot:
                    log.warning("unreadable snapshot", run_id=run_id)
                    return False
                if not is_untouched(found.snapshot, stored.snapshot):
                    return False
                stored = found
            else:
                self.on_told(run_id, revision)
                return True
        raise Unanswered(f"run {run_id} is written by others faster than it can be read")


def is_untouched(found: RunSnapshot, first: RunSnapshot) -> bool:
    """Whether a run is as it was submitted, but for what time makes of it: it may have been marked late."""
    return is_first(found) and found.submitted_at == first.submitted_at


def _fits(snapshot: RunSnapshot, limit: int) -> bool:
    try:
        encode_snapshot(snapshot, max_bytes=limit)
    except SnapshotTooLarge:
        return False
    return True


def _is_news(before: RunSnapshot, snapshot: RunSnapshot) -> bool:
    """Whether a write changes what the run's events tell of its state."""
    return before.status is not snapshot.status or before.attempt != snapshot.attempt


async def _snapshots(
    stored: StoredRun, events: AsyncIterator[WatchEvent]
) -> AsyncGenerator[RunSnapshot, None]:
    yield stored.snapshot
    seen = stored.revision
    latest: Entry | None = None
    caught_up = False
    async for event in events:
        match event:
            case Entry():
                latest = event
            case CaughtUp():
                caught_up = True
                if latest is None:
                    return
            case Deleted():
                return
            case Reset():
                latest, caught_up = None, False
            case _:
                assert_never(event)
        # A server that lags behind tells an older state first; the storage may have gone back to one as well.
        if caught_up and latest is not None and latest.revision != seen:
            seen = latest.revision
            yield decode_snapshot(latest.value)
