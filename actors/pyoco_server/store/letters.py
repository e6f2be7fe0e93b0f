"""Reading the dead-letter stream: one letter, or pages of them, the newest first."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass

import trio
from msgspec.structs import replace

from pyoco_server.jetstream.connection import Connection
from pyoco_server.jetstream.consumer import Message
from pyoco_server.jetstream.errors import Unanswered
from pyoco_server.jetstream.follow import CaughtUp, Follower
from pyoco_server.jetstream.inventory import stream_state
from pyoco_server.jetstream.stored import delete_message, get_message
from pyoco_server.model.dead_letter import (
    DeadLetter,
    UnreadableDeadLetter,
    decode_dead_letter,
    payload_text,
)

# How many sequences are looked at together. A stream has no reading backwards, so a page is looked for in
# windows from the end, each larger than the last, and ends where this was in vain for long.
_WINDOW = 256
_LARGEST_WINDOW = 4096
_MOST_LOOKED_AT = 20_000
_READ_SECONDS = 10.0
# A letter may carry a quarter of a mebibyte of params.
_BATCH = 16


@dataclass(frozen=True, slots=True)
class StoredLetter:
    """A letter and the sequence that it is stored under."""

    seq: int
    letter: DeadLetter


@dataclass(frozen=True, slots=True)
class LetterPage:
    """Letters, newest first and without their params; ``next_cursor`` is None at the end."""

    items: list[StoredLetter]
    next_cursor: int | None


class LetterBox:
    """The stored dead letters.

    Args:
        connection: The way to JetStream.
        stream: The dead-letter stream.
        subject_prefix: ``pyoco.dlq``; a letter's subject is ``<prefix>.<tag>``.
    """

    def __init__(self, connection: Connection, stream: str, subject_prefix: str) -> None:
        self._connection = connection
        self._stream = stream
        self._prefix = subject_prefix

    async def get(self, seq: int) -> StoredLetter | None:
        """Read a letter; None where there is none (any more).

        Raises:
            BridgeError: NATS could not be asked.
        """
        message = await get_message(self._connection, self._stream, seq)
        if message is None:
            return None
        return StoredLetter(seq, _letter(message.data, message.stored_at, message.subject))

    async def delete(self, seq: int) -> None:
        """Delete a letter; nothing happens where it is gone.

        Raises:
            BridgeError: NATS could not be asked.
        """
        await delete_message(self._connection, self._stream, seq)

    async def page(
        self,
        takes: Callable[[DeadLetter], bool],
        *,
        before: int | None,
        limit: int,
        tag: str | None = None,
        not_before: float = 0.0,
    ) -> LetterPage:
        """Read letters, the newest first.

        A page has fewer than ``limit`` letters, or none, where those that are wanted are rare; only a
        ``next_cursor`` of None says that there are no more.

        Args:
            takes: Which letters are wanted.
            before: Only those with a lesser sequence.
            limit: How many at most.
            tag: Only those of this tag.
            not_before: Where to stop looking, in unix seconds: at letters that were stored before it.

        Raises:
            BridgeError: NATS could not be asked.
        """
        state = await stream_state(self._connection, self._stream)
        high = state.last_seq if before is None else min(before - 1, state.last_seq)
        subject = f"{self._prefix}.{tag or '>'}"
        window, looked_at = _WINDOW, 0
        items: list[StoredLetter] = []
        while high >= state.first_seq > 0 and len(items) < limit and looked_at < _MOST_LOOKED_AT:
            low = max(state.first_seq, high - window + 1)
            newest: deque[StoredLetter] = deque(maxlen=limit - len(items))
            oldest = math.inf
            async with aclosing(self._between(subject, low, high)) as messages:
                async for message in messages:
                    oldest = min(oldest, message.delivery.timestamp)
                    letter = _letter(message.data, message.delivery.timestamp, message.subject)
                    if takes(letter):
                        bare = replace(letter, params=None)
                        newest.append(StoredLetter(message.stream_sequence, bare))
            items += reversed(newest)
            looked_at += high - low + 1
            high = low - 1
            window = min(window * 4, _LARGEST_WINDOW)
            if oldest < not_before:
                break
        if len(items) == limit:
            high = items[-1].seq - 1
        return LetterPage(items, high + 1 if high >= state.first_seq > 0 else None)

    async def _between(self, subject: str, low: int, high: int) -> AsyncGenerator[Message, None]:
        follower = Follower(self._connection, self._stream, subject, after=low - 1, batch=_BATCH)
        async with aclosing(follower.messages()) as messages:
            while True:
                message = None
                with trio.move_on_after(_READ_SECONDS):
                    message = await anext(messages)
                if message is None:
                    raise Unanswered(f"dead letters not read within {_READ_SECONDS:g} s")
                if isinstance(message, CaughtUp):
                    return
                if not isinstance(message, Message):
                    raise Unanswered("the dead-letter stream was made anew meanwhile")
                if message.stream_sequence > high:
                    return
                yield message


def _letter(data: bytes, stored_at: float, subject: str) -> DeadLetter:
    """Read a letter; one that is none is told as such, with what it holds."""
    try:
        return decode_dead_letter(data)
    except UnreadableDeadLetter as error:
        return DeadLetter(
            timestamp=stored_at,
            reason="unreadable",
            error=str(error),
            subject=subject,
            payload=payload_text(data),
        )
