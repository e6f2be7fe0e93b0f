"""Reading the chunks of one object: in order, complete, and never waiting for ever."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, suppress

import trio

from pyoco_server.jetstream.connection import Connection
from pyoco_server.jetstream.consumer import Message
from pyoco_server.jetstream.errors import BridgeError, ObjectDamaged, Unanswered
from pyoco_server.jetstream.follow import CaughtUp, Follower, Reset
from pyoco_server.jetstream.objectinfo import ObjectInfo
from pyoco_server.jetstream.stored import last_sequence

# What is asked for at once, and so what is in memory: 1 MiB of ordinary chunks.
_BATCH = 8
# A consumer does not tell that what it would have delivered was purged, or got lost: a new one knows.
_LOOK_SECONDS = 1.0


async def read_chunks(
    connection: Connection, stream: str, subject: str, info: ObjectInfo, silence_seconds: float
) -> AsyncGenerator[bytes, None]:
    """The running side of `ObjectStore.read`: the chunks, the last one only when all are right.

    A store takes all chunks before their metadata. So whoever has seen all that is stored and has not
    got them all knows that the rest has vanished.
    """
    digest = hashlib.sha256()
    size = chunks = 0
    after: int | None = None
    deadline = trio.current_time() + silence_seconds
    while chunks < info.chunks:
        follower = Follower(connection, stream, subject, after=after, batch=_BATCH)
        async with aclosing(follower.messages()) as messages:
            while chunks < info.chunks:
                message = None
                with trio.move_on_at(deadline):
                    message = await _next(messages, connection, stream, subject)
                if message is None:
                    break
                if isinstance(message, CaughtUp | Reset):
                    raise ObjectDamaged(
                        f"object {info.name!r}: {info.chunks - chunks} of its {info.chunks} chunks "
                        "are gone; it was replaced, deleted or cut off"
                    )
                after = message.stream_sequence
                chunks += 1
                size += len(message.data)
                digest.update(message.data)
                if chunks == info.chunks:
                    _check_whole(info, size, digest.hexdigest())
                yield message.data
                # The reader may take its time with a piece.
                deadline = trio.current_time() + silence_seconds
        if chunks < info.chunks and trio.current_time() >= deadline:
            raise Unanswered(
                f"object {info.name!r}: nothing came for {silence_seconds:g} s, "
                f"after {chunks} of {info.chunks} chunks"
            )
    if info.chunks == 0:
        _check_whole(info, size, digest.hexdigest())


async def _next(
    messages: AsyncGenerator[Message | CaughtUp | Reset, None],
    connection: Connection,
    stream: str,
    subject: str,
) -> Message | CaughtUp | Reset | None:
    """The next message; None where the server has answered twice meanwhile, and it has not come.

    However far the server and narrow the link: an answer comes behind what was on its way before it.
    """
    message: Message | CaughtUp | Reset | None = None

    async def look(here: trio.CancelScope) -> None:
        for _ in range(2):
            await trio.sleep(_LOOK_SECONDS)
            with suppress(BridgeError):
                await last_sequence(connection, stream, subject)
        here.cancel()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(look, nursery.cancel_scope)
        message = await anext(messages)
        nursery.cancel_scope.cancel()
    return message


async def cut(
    pieces: AsyncIterator[bytes], start: int, stop: int | None
) -> AsyncGenerator[bytes, None]:
    """The bytes from ``start`` to before ``stop``, or to the end; what is behind is not asked for."""
    place = 0
    async for piece in pieces:
        end = len(piece) if stop is None else max(stop - place, 0)
        part = piece[max(start - place, 0) : end]
        place += len(piece)
        if part:
            yield part
        if stop is not None and place >= stop:
            return


def _check_whole(info: ObjectInfo, size: int, sha256: str) -> None:
    if size != info.size or sha256 != info.sha256_hex:
        raise ObjectDamaged(
            f"object {info.name!r}: {size} bytes with SHA-256 {sha256} instead of "
            f"{info.size} with {info.sha256_hex}"
        )
