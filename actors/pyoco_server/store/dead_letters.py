"""Dead letters: one for each job or run that could not be brought to a good end; written, read, deleted."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import structlog
import trio
from msgspec.structs import replace

from pyoco_server.jetstream.connection import Connection
from pyoco_server.jetstream.consumer import Message
from pyoco_server.jetstream.errors import BridgeError, PayloadTooLarge, Unanswered, Unavailable
from pyoco_server.jetstream.follow import CaughtUp, Follower
from pyoco_server.jetstream.inventory import stream_state
from pyoco_server.jetstream.publish import publish_acked
from pyoco_server.jetstream.stored import delete_message, get_message
from pyoco_server.model.dead_letter import (
    DeadLetter,
    DeadLetterReason,
    UnreadableDeadLetter,
    decode_dead_letter,
    payload_text,
)
from pyoco_server.model.errors import ErrorId
from pyoco_server.model.job import Job
from pyoco_server.model.json_text import encode_json
from pyoco_server.model.limits import limits_in
from pyoco_server.model.run import RunSnapshot

log = structlog.get_logger(__name__)

# A stream that was deleted is made again within seconds.
_NOBODY_SECONDS = 12.0
_RETRY_SECONDS = 0.2
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


def letter_id(run: RunSnapshot, reason: DeadLetterReason) -> str:
    """The message id that makes the letters of a run's end one, whoever writes them."""
    return f"{run.run_id}:{reason}:{run.attempt}"


class DeadLetterStore:
    """The dead letters. Losing one never stops a run from ending: it is logged.

    To read and to delete letters raises a `BridgeError` where NATS could not be asked.

    Args:
        subject_prefix: ``pyoco.dlq``; a letter's subject is ``<prefix>.<tag>``.
    """

    def __init__(self, connection: Connection, stream: str, subject_prefix: str) -> None:
        self._connection = connection
        self._stream = stream
        self._prefix = subject_prefix

    async def write(
        self,
        tag: str,
        reason: DeadLetterReason,
        error: str,
        *,
        msg_id: str | None = None,
        **details: Any,
    ) -> None:
        """Publish a letter, which is to be acknowledged within 2 seconds.

        Where NATS is there and the stream is not, it is waited for, twelve seconds at most.

        Args:
            tag: The tag of the job, or its last subject token where it is no readable job.
            reason: Why.
            error: What went wrong, for people.
            msg_id: Makes one letter of several with the same id, within the stream's duplicate window.
            details: Further fields of `DeadLetter`.
        """
        letter = DeadLetter(timestamp=time.time(), reason=reason, error=error, tag=tag, **details)
        try:
            try:
                await self._publish(tag, letter, msg_id)
            except PayloadTooLarge:
                # The run's own snapshot has the params as well, for as long as it is kept.
                await self._publish(tag, replace(letter, params=None), msg_id)
        except BridgeError as failure:
            log.error(  # noqa: TRY400 - what failed is told in full by its text
                "dead letter not written",
                err_id=ErrorId.DEAD_LETTER_NOT_PUBLISHED,
                reason=str(failure),
                dead_letter_reason=reason,
                run_id=details.get("run_id"),
            )

    async def _publish(self, tag: str, letter: DeadLetter, msg_id: str | None) -> None:
        subject, payload = f"{self._prefix}.{tag}", encode_json(letter)
        deadline = trio.current_time() + _NOBODY_SECONDS
        while True:
            try:
                await publish_acked(self._connection, subject, payload, msg_id=msg_id, within=2.0)
            except Unavailable:
                if not self._connection.status.connected or trio.current_time() >= deadline:
                    raise
                await trio.sleep(_RETRY_SECONDS)
            else:
                return

    async def write_for(
        self,
        job: Job,
        reason: DeadLetterReason,
        error: str,
        *,
        worker_id: str | None = None,
        msg_id: str | None = None,
    ) -> None:
        """Publish a letter about a readable job; see `write`."""
        await self.write(
            job.tag,
            reason,
            error,
            run_id=job.run_id,
            flow_name=job.flow_name,
            tags=job.tags,
            tenant_id=job.tenant_id,
            api_key_id=job.api_key_id,
            worker_id=worker_id,
            msg_id=msg_id,
            params=job.params,
            workflow_yaml_sha256=job.workflow_yaml_sha256,
            workflow_yaml_bytes=job.workflow_yaml_bytes,
            **limits_in(job),
        )

    async def get(self, seq: int) -> StoredLetter | None:
        """Read a letter; None where there is none (any more)."""
        message = await get_message(self._connection, self._stream, seq)
        if message is None:
            return None
        return StoredLetter(seq, _letter(message.data, message.stored_at, message.subject))

    async def delete(self, seq: int) -> None:
        """Delete a letter; nothing happens where it is gone."""
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
