"""What is there: streams, their consumers and the account's limits; and changing or deleting a stream.

Field names are those of JetStream's own API (nats-server, server/stream.go and server/consumer.go). Each call
raises a `BridgeError` where NATS is not connected, refused or did not answer.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from datetime import datetime
from typing import Any, Generic, TypeVar

import msgspec
import trio

from pyoco_server.jetstream.api import Anything, call
from pyoco_server.jetstream.connection import Connection
from pyoco_server.jetstream.errors import ApiError, NotFound

T = TypeVar("T")

_PAGE_SECONDS = 10.0
# Without a quorum for that long a leader steps down (nats-server, server/raft.go).
_SILENT_NANOSECONDS = 10_000_000_000


class StreamState(msgspec.Struct, kw_only=True):
    """What a stream holds."""

    messages: int = 0
    bytes: int = 0
    first_seq: int = 0
    last_seq: int = 0
    """The sequence of the last message that was ever stored."""
    num_subjects: int = 0
    """On how many subjects there are messages."""
    subjects: dict[str, int] | None = None
    """How many messages each subject has, where asked for."""


class Peer(msgspec.Struct, kw_only=True):
    """A further server that holds a replica."""

    name: str = ""
    current: bool = False
    """Whether it has all that the leader has."""
    offline: bool = False
    """Whether its connections are gone; one that hangs keeps them for minutes."""
    active: int = 0
    """Nanoseconds since the leader heard of it, which is about a second as a rule."""
    lag: int = 0
    """How many operations it is behind."""

    @property
    def lost(self) -> bool:
        """Whether it is gone, or hangs."""
        return self.offline or (not self.current and self.active > _SILENT_NANOSECONDS)


class Cluster(msgspec.Struct, kw_only=True):
    """Where the replicas of a stream or consumer are."""

    leader: str = ""
    replicas: list[Peer] = msgspec.field(default_factory=list)


class StreamInfo(msgspec.Struct, kw_only=True):
    """A stream as it is now."""

    config: dict[str, Any]
    state: StreamState = msgspec.field(default_factory=StreamState)
    cluster: Cluster | None = None
    created: str = ""
    """When it was made: one that was deleted and made again is another."""
    ts: datetime | None = None
    """The server's time of the answer."""
    total: int = 0
    """On how many subjects of those that were asked for there are messages."""

    @property
    def holds_back(self) -> bool:
        """Whether messages can wait in it until it is time; see `publish.delayed`."""
        return bool(self.config.get("allow_msg_schedules"))

    @property
    def name(self) -> str:
        """Its name."""
        return str(self.config["name"])

    @property
    def replicas(self) -> int:
        """How many copies it is configured to have."""
        return int(self.config.get("num_replicas", 1))


class _Delivered(msgspec.Struct, kw_only=True):
    stream_seq: int = 0


class ConsumerInfo(msgspec.Struct, kw_only=True):
    """A consumer as it is now."""

    name: str = ""
    config: dict[str, Any] = msgspec.field(default_factory=dict)
    num_ack_pending: int = 0
    """Delivered and not acknowledged yet."""
    num_redelivered: int = 0
    num_waiting: int = 0
    """Open pull requests: somebody asks for messages."""
    num_pending: int = 0
    """Not delivered yet."""
    push_bound: bool = False
    paused: bool = False
    cluster: Cluster | None = None
    delivered: _Delivered = msgspec.field(default_factory=_Delivered)


class _Limits(msgspec.Struct, kw_only=True):
    max_storage: int = -1


class AccountInfo(msgspec.Struct, kw_only=True):
    """What the account uses of JetStream, and what it may; -1 is no limit."""

    storage: int = 0
    limits: _Limits = msgspec.field(default_factory=_Limits)


class _Listing(msgspec.Struct, Generic[T]):
    """A part of a list; only one of both has something."""

    total: int = 0
    streams: list[T] | None = None
    consumers: list[T] | None = None


async def account_info(connection: Connection) -> AccountInfo:
    """The account's use and limits.

    Raises:
        ApiError: JetStream is not enabled for it.
    """
    return await call(connection, "INFO", answer=AccountInfo)


async def list_streams(connection: Connection) -> list[StreamInfo]:
    """All streams of the account, buckets and object stores among them, by name.

    In a cluster, those whose leader does not answer are missing.
    """
    found = await _all(connection, "STREAM.LIST", _Listing[StreamInfo])
    return sorted(found, key=lambda info: info.name)


async def stream_names(connection: Connection) -> set[str]:
    """The names of all streams of the account, also of those that do not answer."""
    return set(await _all(connection, "STREAM.NAMES", _Listing[str], within=5.0))


async def read_stream(
    connection: Connection, name: str, *, subjects: str | None = None, offset: int = 0
) -> StreamInfo:
    """One stream; what the server tells of the time goes to the connection's clock.

    It counts the messages of each of the ``subjects`` of a pattern, of 100,000 by name behind ``offset``.

    Raises:
        NotFound: It does not exist.
    """
    body, within = None, 5.0
    if subjects is not None:
        body, within = {"subjects_filter": subjects, "offset": offset}, _PAGE_SECONDS
    asked = trio.current_time()
    info = await call(connection, f"STREAM.INFO.{name}", body, answer=StreamInfo, within=within)
    connection.clock.told(info.ts, asked)
    return info


async def stream_info(connection: Connection, name: str) -> StreamInfo | None:
    """One stream; None when there is none of that name."""
    try:
        return await read_stream(connection, name)
    except NotFound:
        return None


async def stream_state(connection: Connection, name: str) -> StreamState:
    """What a stream holds; raises as `read_stream`."""
    return (await read_stream(connection, name)).state


async def subjects_of(connection: Connection, name: str, pattern: str = ">") -> dict[str, int]:
    """How many messages a stream holds under each subject of a pattern; nothing when it does not exist."""
    found: dict[str, int] = {}
    while True:
        try:
            page = await read_stream(connection, name, subjects=pattern, offset=len(found))
        except NotFound:
            return {}
        found |= page.state.subjects or {}
        if not page.state.subjects or len(found) >= page.total:
            return found


async def bucket_keys(connection: Connection, bucket: str) -> AsyncGenerator[list[str], None]:
    """List the keys of a key-value bucket, deletion markers included, in pages of 100,000 by name.

    A key that is there from the first page to the last is in one of them.

    Raises:
        ApiError: It does not exist, or keys were removed meanwhile: then begin again.
    """
    prefix = f"$KV.{bucket}."
    offset, last = 0, None
    while True:
        info = await read_stream(connection, f"KV_{bucket}", subjects=f"{prefix}>", offset=offset)
        names = sorted(subject.removeprefix(prefix) for subject in info.state.subjects or ())
        # Each page begins with the last name of the one before: unless it does, something before it was
        # removed, what follows moved to the front, and a page that is given would have passed over it.
        if last is not None and names[:1] != [last]:
            raise ApiError(409, 0, f"keys of bucket {bucket} were removed while they were listed")
        yield names
        if offset + len(names) >= info.total or len(names) < 2:
            return
        offset, last = offset + len(names) - 1, names[-1]


async def consumer_info(connection: Connection, stream: str, name: str) -> ConsumerInfo:
    """A consumer.

    Raises:
        NotFound: It does not exist.
    """
    return await call(connection, f"CONSUMER.INFO.{stream}.{name}", answer=ConsumerInfo)


async def list_consumers(connection: Connection, stream: str) -> list[ConsumerInfo]:
    """All consumers of a stream, by name; none when the stream does not exist."""
    try:
        found = await _all(connection, f"CONSUMER.LIST.{stream}", _Listing[ConsumerInfo])
    except NotFound:
        return []
    return sorted(found, key=lambda info: info.name)


async def _all(
    connection: Connection,
    what: str,
    page_type: type[_Listing[T]],
    *,
    within: float = _PAGE_SECONDS,
) -> list[T]:
    """What JetStream lists page by page."""
    found: list[T] = []
    while True:
        body = {"offset": len(found)}
        page = await call(connection, what, body, answer=page_type, within=within)
        items = page.streams or page.consumers
        found += items or ()
        if not items or len(found) >= page.total:
            return found


async def update_stream(connection: Connection, config: dict[str, Any]) -> None:
    """Give a stream that exists another configuration.

    Raises:
        ApiError: JetStream refused the change.
    """
    await call(connection, f"STREAM.UPDATE.{config['name']}", config, answer=Anything, within=15.0)


async def create_stream(connection: Connection, config: dict[str, Any]) -> None:
    """Make a stream.

    Raises:
        ApiError: JetStream refused, also for a name that is taken by a stream of other settings.
    """
    await call(connection, f"STREAM.CREATE.{config['name']}", config, answer=Anything, within=15.0)


async def delete_stream(connection: Connection, name: str) -> None:
    """Delete a stream with all it holds; nothing happens when there is none."""
    try:
        await call(connection, f"STREAM.DELETE.{name}", answer=Anything, within=30.0)
    except NotFound:
        return
