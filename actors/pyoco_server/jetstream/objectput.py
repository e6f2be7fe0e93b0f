"""Storing the chunks of an object, in order, with a bounded number of them under way."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import AsyncGenerator, AsyncIterable
from contextlib import aclosing
from typing import Final

import trio
from msgspec.structs import replace

from pyoco_server.jetstream.connection import Connection
from pyoco_server.jetstream.errors import Unanswered
from pyoco_server.jetstream.objectinfo import CHUNK_BYTES, DIGEST_PREFIX, ObjectInfo
from pyoco_server.jetstream.publish import read_ack
from pyoco_server.jetstream.requests import Waiter, new_inbox

# Chunks whose acknowledgement is awaited at the same time: what a put holds in memory, 128 KiB each.
_WINDOW: Final = 8
_ACK_SECONDS: Final = 15.0
_SETTLE_SECONDS: Final = 3.0


async def put_chunks(
    connection: Connection, subject: str, info: ObjectInfo, pieces: AsyncIterable[bytes]
) -> ObjectInfo:
    """Store the bytes; return the info with their size, number of chunks and digest.

    One task, so that they are stored in order. Failed or cancelled, it returns when NATS has answered
    for each chunk that it was sent, after three seconds at the latest: till then, a purge could overtake
    chunks that the server has taken and not stored yet, and they would stay.

    Raises:
        BridgeError: NATS refused, or is not known to have stored it all.
    """
    digest = hashlib.sha256()
    size = 0
    under_way = _UnderWay(connection, subject)
    try:
        async with aclosing(_chunked(pieces)) as chunks:
            async for chunk in chunks:
                digest.update(chunk)
                size += len(chunk)
                await under_way.send(chunk)
        await under_way.confirm_all()
    finally:
        with trio.move_on_after(_SETTLE_SECONDS, shield=True):
            await under_way.settle()
        under_way.close()
    text = DIGEST_PREFIX + base64.urlsafe_b64encode(digest.digest()).decode()
    return replace(info, size=size, chunks=under_way.sent, digest=text)


class _UnderWay:
    """Chunks that were sent, and what NATS answered."""

    def __init__(self, connection: Connection, subject: str) -> None:
        self._connection = connection
        self._subject = subject
        self._acks = Waiter()
        self._answered = 0
        self._inbox = new_inbox()
        self._feed = connection.open_feed(self._inbox, self._acks.tell, self._acks.lose)
        self.sent = 0

    async def send(self, chunk: bytes) -> None:
        await self._connection.publish(self._subject, chunk, reply=self._inbox)
        self.sent += 1
        while self.sent - self._answered >= _WINDOW:
            await self._confirm()

    async def confirm_all(self) -> None:
        while self._answered < self.sent:
            await self._confirm()

    async def settle(self) -> None:
        """Wait until each chunk is stored, refused or lost."""
        while self._answered < self.sent and await self._acks.next() is not None:
            self._answered += 1

    def close(self) -> None:
        self._connection.close_feed(self._feed)

    async def _confirm(self) -> None:
        with trio.move_on_after(_ACK_SECONDS):
            reply = await self._acks.next()
            if reply is None:
                raise Unanswered(f"put to {self._subject}: the connection broke")
            self._answered += 1
            read_ack(self._subject, reply)
            return
        raise Unanswered(f"put to {self._subject}: no acknowledgement within {_ACK_SECONDS:g} s")


async def _chunked(pieces: AsyncIterable[bytes]) -> AsyncGenerator[bytes, None]:
    """The same bytes in pieces of `CHUNK_BYTES`, the last one apart."""
    buffer = bytearray()
    async for piece in pieces:
        buffer += piece
        while len(buffer) >= CHUNK_BYTES:
            yield bytes(buffer[:CHUNK_BYTES])
            del buffer[:CHUNK_BYTES]
    if buffer:
        yield bytes(buffer)
