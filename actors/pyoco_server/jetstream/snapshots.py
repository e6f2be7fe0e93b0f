"""Taking the whole of a stream out of JetStream and putting it back: its snapshot API.

What comes is an opaque text of the server's (messages with their sequences and times, consumers with
what they have delivered). Protocol, from nats-server's server/jetstream_api.go: the server sends chunks to
a subject of ours, and waits when too many bytes of them are not confirmed yet; an empty message is the last,
with a status where something went wrong. Going back, each chunk is a request, and an empty one is the last.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import msgspec
import trio

from pyoco_server.jetstream.api import MaybeRefused, call, check
from pyoco_server.jetstream.connection import Connection
from pyoco_server.jetstream.errors import ApiError, BridgeError, Unanswered, Unavailable
from pyoco_server.jetstream.inventory import StreamInfo, StreamState
from pyoco_server.jetstream.requests import RawMessage, Waiter, new_inbox

_CHUNK_BYTES = 128 * 1024
# A chunk after the other comes within milliseconds; checking a large store comes before the first.
_FIRST_SECONDS = 60.0
_SILENCE_SECONDS = 15.0
# In a cluster, what takes the chunks of a restore may listen on another node; till this one has heard
# of that, it says that nobody does.
_HEARSAY_SECONDS = 10.0
_LOOK_SECONDS = 0.05
# The last word of a restore comes after the server has read the stream back.
_RESTORED_SECONDS = 300.0
_GOOD_STATUSES = (None, 204)


class SnapshotBroken(BridgeError):
    """A snapshot could not be read to its end, or a restore not be finished; the text says why."""


class _SnapshotAnswer(msgspec.Struct):
    config: dict[str, Any]
    state: msgspec.Raw


class _RestoreAnswer(msgspec.Struct):
    deliver_subject: str


@dataclass(frozen=True)
class StreamSnapshot:
    """A snapshot that is being read.

    Attributes:
        config: The stream's configuration.
        state: The stream's state as the server wrote it, to be given back as it is.
        holds: The same, read.
        chunks: The bytes, to be iterated once and to the end.
    """

    config: dict[str, Any]
    state: bytes
    holds: StreamState
    chunks: AsyncIterator[bytes]


@asynccontextmanager
async def open_snapshot(
    connection: Connection, stream: str, *, consumers: bool
) -> AsyncIterator[StreamSnapshot]:
    """Take a snapshot of a stream, with its consumers or without, at the moment of entering the block.

    Raises:
        NotFound: There is no such stream.
        SnapshotBroken: While it is iterated: the server gave up, or the connection broke.
        BridgeError: Not connected, refused or not answered.
    """
    inbox, waiter = new_inbox(), Waiter()
    feed = connection.open_feed(inbox, waiter.tell, waiter.lose)
    try:
        answer = await call(
            connection,
            f"STREAM.SNAPSHOT.{stream}",
            {
                "deliver_subject": inbox,
                "no_consumers": not consumers,
                "jsck": True,
                "chunk_size": _CHUNK_BYTES,
            },
            answer=_SnapshotAnswer,
            within=_FIRST_SECONDS,
        )
        state = bytes(answer.state)
        holds = msgspec.json.decode(state, type=StreamState)
        async with aclosing(_chunks(connection, stream, waiter)) as chunks:
            yield StreamSnapshot(answer.config, state, holds, chunks)
    finally:
        connection.close_feed(feed)


async def _chunks(
    connection: Connection, stream: str, waiter: Waiter
) -> AsyncGenerator[bytes, None]:
    limit = _FIRST_SECONDS
    while True:
        chunk = None
        with trio.move_on_after(limit):
            chunk = await waiter.next()
            if chunk is None:
                raise SnapshotBroken(f"snapshot of {stream}: the connection broke")
        if chunk is None:
            raise SnapshotBroken(f"snapshot of {stream}: nothing came for {limit:g} s")
        if not chunk.payload:
            if chunk.status not in _GOOD_STATUSES:
                raise SnapshotBroken(
                    f"snapshot of {stream}: NATS gave up: {chunk.status} {chunk.description}"
                )
            return
        yield chunk.payload
        # Only what the reader is done with is confirmed, so that the server waits for a slow one.
        if chunk.reply:
            await connection.publish(chunk.reply)
        limit = _SILENCE_SECONDS


async def restore_stream(
    connection: Connection, config: dict[str, Any], state: bytes, chunks: Iterable[bytes]
) -> StreamInfo:
    """Make a stream out of a snapshot: all of it, or nothing.

    The server makes the stream only with the last chunk; whatever comes before that ends without one,
    and what it had kept of it is dropped.

    Args:
        connection: The way to NATS.
        config: Its configuration; may differ from the snapshot's, such as in its replicas.
        state: Its state, as the snapshot tells it.
        chunks: Its bytes.

    Raises:
        ApiError: NATS refused: the name is taken, there is no room, the bytes are no snapshot.
        SnapshotBroken: It gave up in the middle.
        BridgeError: Not connected, or not answered.
    """
    name = config["name"]
    begun = await call(
        connection,
        f"STREAM.RESTORE.{name}",
        {"config": config, "state": msgspec.Raw(state)},
        answer=_RestoreAnswer,
        within=_SILENCE_SECONDS,
    )
    patience = _HEARSAY_SECONDS
    for chunk in chunks:
        reply = await _send(connection, begun.deliver_subject, chunk, patience)
        patience = 0.0
        if reply.payload:  # the server's last word before the end is that it failed
            _check(name, reply.payload)
    reply = await connection.request(begun.deliver_subject, b"", within=_RESTORED_SECONDS)
    _check(name, reply.payload)
    try:
        return msgspec.json.decode(reply.payload, type=StreamInfo)
    except msgspec.MsgspecError as error:
        raise Unanswered(f"restore of {name}: an answer that cannot be read: {error}") from None


async def _send(connection: Connection, subject: str, chunk: bytes, patience: float) -> RawMessage:
    until = trio.current_time() + patience
    while True:
        try:
            return await connection.request(subject, chunk, within=_SILENCE_SECONDS)
        except Unavailable:
            if not connection.status.connected or trio.current_time() >= until:
                raise
        await trio.sleep(_LOOK_SECONDS)


def _check(name: str, payload: bytes) -> None:
    try:
        check(msgspec.json.decode(payload, type=MaybeRefused).error)
    except ApiError as error:
        raise SnapshotBroken(f"restore of {name}: {error}") from None
    except msgspec.MsgspecError:
        raise SnapshotBroken(f"restore of {name}: NATS answered {payload[:200]!r}") from None
