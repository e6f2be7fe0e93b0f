"""Key-value buckets: get, create, compare-and-set, delete, and watches (`watch`).

A bucket is a stream ``KV_<bucket>`` with subjects ``$KV.<bucket>.>``, as nats-py and every other client
make it (ADR-8 of nats-architecture-and-design); a revision is a sequence of that stream.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, asynccontextmanager

from pyoco_server.jetstream.connection import Connection
from pyoco_server.jetstream.errors import (
    NO_TTL,
    ApiError,
    BatchRefused,
    InvalidKey,
    KeyNotFound,
    WrongRevision,
)
from pyoco_server.jetstream.follow import CaughtUp, Reset
from pyoco_server.jetstream.inventory import stream_info
from pyoco_server.jetstream.publish import Publication, publish_acked, publish_batch
from pyoco_server.jetstream.stored import StoredMessage, last_message, last_sequence, purge_subject
from pyoco_server.jetstream.watch import Batch, Deleted, Entry, Watcher, WatchEvent

__all__ = ["Batch", "CaughtUp", "Deleted", "Entry", "KeyValue", "Reset", "WatchEvent"]

_KEY = re.compile(r"[-/_=A-Za-z0-9]+(\.[-/_=A-Za-z0-9]+)*")
# A message's limit counts its headers; ours take less than this.
_HEADER_BYTES = 1024
_DELETED = {"KV-Operation": "DEL"}


class KeyValue:
    """A bucket. It may be created later, or be away for the moment.

    Each call raises a `BridgeError` where NATS refused or could not be asked; where it is not known what came
    of a write, it may be done.
    """

    def __init__(self, connection: Connection, bucket: str) -> None:
        self._connection = connection
        self.bucket = bucket
        self.stream = f"KV_{bucket}"
        self._prefix = f"$KV.{bucket}."
        # The connection on which the bucket was found to take no batches.
        self._no_batches_on = -1

    @property
    def max_value_bytes(self) -> int | None:
        """The largest value that the server takes now; None before the first connection."""
        limit = self._connection.status.max_payload
        return None if limit is None else limit - _HEADER_BYTES

    def now(self) -> float:
        """The time of the server, by which entries are stored and expire, in unix seconds."""
        return self._connection.clock.now()

    async def learn_time(self) -> bool:
        """Make sure that `now` is the server's; False where it has not told it yet."""
        if not self._connection.clock.known:
            await stream_info(self._connection, self.stream)
        return self._connection.clock.known

    async def get(self, key: str, *, within: float = 5.0) -> Entry:
        """Read the value of a key, from the stream's leader, so that one's own writes are seen.

        Raises:
            KeyNotFound: It has none (never written, deleted, purged or expired).
            NotFound: The bucket does not exist.
        """
        message = await self._last(key, within)
        if message is None or _is_marker(message.headers):
            revision = 0 if message is None else message.sequence
            raise KeyNotFound(f"no key {key!r} in bucket {self.bucket}", revision)
        return Entry(key, message.data, message.sequence, message.stored_at)

    async def newest(self, pattern: str = ">", *, within: float = 5.0) -> int:
        """The highest revision that a key of the pattern has, deleted ones included; 0 for none.

        Raises:
            NotFound: The bucket does not exist.
        """
        subject = self._prefix + pattern
        return await last_sequence(self._connection, self.stream, subject, within=within)

    async def put(self, key: str, value: bytes, *, within: float = 5.0) -> int:
        """Write a value, whatever is there; return its revision."""
        return (await publish_acked(self._connection, self._subject(key), value, within=within)).seq

    async def create(self, key: str, value: bytes, *, within: float = 5.0) -> int:
        """Write a value where there is none; return its revision. ``within`` is for each step.

        Raises:
            WrongRevision: There is one.
        """
        try:
            return await self.update(key, value, 0, within=within)
        except WrongRevision:
            message = await self._last(key, within)
            if message is not None and not _is_marker(message.headers):
                raise
        # The marker of a deleted key has a sequence of its own; what expired meanwhile has none.
        revision = 0 if message is None else message.sequence
        return await self.update(key, value, revision, within=within)

    async def update_all(
        self, values: Sequence[tuple[str, bytes, int]], *, within: float = 5.0
    ) -> range:
        """Do what `update` does with many keys, values and revisions: all of it, or nothing.

        Raises:
            BridgeError: As `publish_batch`.
        """
        if self._connection.epoch == self._no_batches_on:
            raise BatchRefused(f"bucket {self.bucket} takes no batches", lasting=True)
        messages = [
            Publication(self._subject(key), value, expected_last_subject_sequence=revision)
            for key, value, revision in values
        ]
        try:
            return await publish_batch(self._connection, messages, within=within)
        except BatchRefused as error:
            if error.lasting:
                self._no_batches_on = self._connection.epoch
            raise

    async def update(
        self,
        key: str,
        value: bytes,
        revision: int,
        *,
        ttl_seconds: int | None = None,
        within: float = 5.0,
    ) -> int:
        """Write a value if the key still has ``revision`` (0: was never written); return the new one.

        With ``ttl_seconds``, the key expires so long after this write; the bucket has to allow it.

        Raises:
            WrongRevision: It has another.
        """
        headers = {} if ttl_seconds is None else _ttl(ttl_seconds)
        ack = await publish_acked(
            self._connection,
            self._subject(key),
            value,
            headers=headers,
            expected_last_subject_sequence=revision,
            within=within,
        )
        return ack.seq

    async def delete(
        self, key: str, revision: int | None = None, *, marker_seconds: int | None = None
    ) -> int:
        """Delete a key, where given only if it still has ``revision``; return that of its marker.

        Args:
            key: The key.
            revision: What it must have.
            marker_seconds: The marker that is left in its place goes away so long after; it stays where
                the bucket, one of 0.5.1's, cannot do that.

        Raises:
            WrongRevision: It has another.
        """
        headers = _DELETED if marker_seconds is None else _DELETED | _ttl(marker_seconds)
        try:
            ack = await publish_acked(
                self._connection,
                self._subject(key),
                b"",
                headers=headers,
                expected_last_subject_sequence=revision,
            )
        except ApiError as error:
            if error.err_code != NO_TTL or marker_seconds is None:
                raise
            return await self.delete(key, revision)
        return ack.seq

    async def forget(self, key: str) -> None:
        """Remove a key without a marker, as if it had expired; watches do not see it."""
        await purge_subject(self._connection, self.stream, self._subject(key), within=5.0)

    @asynccontextmanager
    async def watch(
        self, pattern: str = ">", *, since: int | None = None
    ) -> AsyncIterator[AsyncIterator[WatchEvent]]:
        """Follow changes; an iterator of `Entry`, `Deleted`, and `CaughtUp` when the present was seen.

        It goes on over lost connections and restarted servers without missing the latest state of any
        key; states in between may be skipped. What is not taken yet waits at the server. When the bucket
        was made anew meanwhile, a `Reset` tells so, and the watch begins again with its present.

        Args:
            pattern: A key, or a pattern of subject tokens; all keys by default.
            since: Go on behind this revision; None begins with the present value of each key.
        """
        watcher = Watcher(self._connection, self.stream, self._prefix, pattern, since)
        async with aclosing(watcher.events()) as events:
            yield events

    @asynccontextmanager
    async def watch_batches(
        self,
        *,
        since: int | None = None,
        identity: str | None = None,
        holds: Callable[[int], Awaitable[bool]] | None = None,
    ) -> AsyncIterator[AsyncIterator[Batch]]:
        """Follow changes of all keys as `watch` does, by the batch, for those that keep a copy.

        It goes on behind ``since``, where the bucket is the one of that ``identity`` and ``holds`` what was
        seen (see `Follower`); else it is read from its beginning (`Batch.anew`).
        """
        watcher = Watcher(
            self._connection,
            self.stream,
            self._prefix,
            ">",
            since,
            identity=identity,
            holds=holds,
        )
        async with aclosing(watcher.batches()) as batches:
            yield batches

    async def all(self) -> Sequence[Entry]:
        """The present value of every key.

        Waits for as long as NATS is away: put a deadline around it.
        """
        entries: dict[str, Entry] = {}
        async with self.watch() as events:
            async for event in events:
                match event:
                    case Entry():
                        entries[event.key] = event
                    case Deleted():
                        entries.pop(event.key, None)
                    case Reset():
                        entries.clear()
                    case CaughtUp():
                        break
        return list(entries.values())

    async def _last(self, key: str, within: float) -> StoredMessage | None:
        return await last_message(self._connection, self.stream, self._subject(key), within=within)

    def _subject(self, key: str) -> str:
        if not _KEY.fullmatch(key):
            raise InvalidKey(
                f"{key[:80]!r} cannot be a key: it takes A-Z a-z 0-9 - / _ = and single dots between"
            )
        return self._prefix + key


def _ttl(seconds: int) -> dict[str, str]:
    return {"Nats-TTL": f"{seconds}s"}


def _is_marker(headers: bytes) -> bool:
    """Whether a stored message says that its key is gone: deleted, purged or expired."""
    return b"KV-Operation:" in headers or b"Nats-Marker-Reason:" in headers
