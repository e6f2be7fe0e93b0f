"""Requests and replies in flight: one inbox, a token each, no task of its own for any of them."""

from __future__ import annotations

import itertools
import math
import uuid
from collections import deque
from collections.abc import Mapping
from typing import Never

import trio

Headers = Mapping[str, str]
Ahead = tuple[str, bytes, Headers]
"""A message that goes before a request: its subject, payload and headers."""

_NONE: Headers = {}
_VERSION = b"NATS/1.0"


class RawMessage:
    """A message that came to the inbox, or to a feed.

    Args:
        subject: Where it was stored or sent to; for a reply, its token's subject.
        payload: The bytes.
        headers: Its headers, or the bytes that hold them, which are read when somebody asks.
        reply: Where it wants an answer, "" for none; a JetStream delivery is acknowledged there.
    """

    __slots__ = ("_headers", "payload", "reply", "subject")

    def __init__(
        self, subject: str, payload: bytes, headers: Headers | bytes = _NONE, reply: str = ""
    ) -> None:
        self.subject = subject
        self.payload = payload
        self.reply = reply
        self._headers = headers

    @property
    def headers(self) -> Headers:
        """Its headers; of a status message, ``Status`` and ``Description`` are among them."""
        if isinstance(self._headers, bytes):
            self._headers = _parse(self._headers)
        return self._headers

    @property
    def status(self) -> int | None:
        """The status of a status message (204, 404, 408, 409, 503), None for an ordinary one."""
        # A stored message may have a header of this name as well; but that one wants to be acknowledged.
        if self.reply or self.payload or not self._headers:
            return None
        text = self.headers.get("Status", "")
        return int(text) if text.isdecimal() else None

    @property
    def description(self) -> str:
        """What a status message says."""
        return self.headers.get("Description", "")


def _parse(block: bytes) -> Headers:
    """Read the headers of a message (ADR-4 of nats-architecture-and-design).

    A status is in the first line: ``NATS/1.0 404 No Messages``. Bytes that are no text are replaced: whoever
    wrote them, one message must not keep the others from being read.
    """
    first, *lines = block.decode("utf-8", "replace").split("\r\n")
    headers: dict[str, str] = {}
    status, _, description = first[len(_VERSION) :].strip().partition(" ")
    if status.isdecimal():
        headers["Status"] = status
        if description := description.strip():
            headers["Description"] = description
    for line in lines:
        name, colon, value = line.partition(":")
        if colon:
            headers[name.strip()] = value.strip()
    return headers


class Waiter:
    """One open request, or one open pull; told each reply, or that none will come any more.

    Attributes:
        deadline: When a `PendingRequests` ends it, in trio's time.
        lost: Whether the connection is gone.
    """

    __slots__ = ("_ended", "_event", "deadline", "lost", "replies")

    def __init__(self, deadline: float = math.inf) -> None:
        self.deadline = deadline
        self.replies: deque[RawMessage] = deque()
        self.lost = False
        self._ended = False
        self._event: trio.Event | None = None

    def tell(self, reply: RawMessage) -> None:
        """A reply came."""
        self.replies.append(reply)
        if self._event is not None:
            self._event.set()

    def lose(self) -> None:
        """The connection is gone; nothing will come any more."""
        self.lost = True
        self.end()

    def end(self) -> None:
        """Nothing is waited for any longer."""
        self._ended = True
        if self._event is not None:
            self._event.set()

    async def next(self) -> RawMessage | None:
        """Wait for the next reply; None when none will come. Cancelling it loses nothing."""
        while not self.replies:
            if self._ended:
                return None
            self._event = trio.Event()
            await self._event.wait()
        return self.replies.popleft()


class PendingRequests:
    """Who waits for which reply subject below an inbox; all replies come over one subscription."""

    def __init__(self, inbox: str) -> None:
        self.inbox = inbox
        self._tokens = itertools.count(1)
        self._waiters: dict[str, Waiter] = {}
        # When `keep_deadlines` looks next, and what makes it look sooner.
        self._look_at = math.inf
        self._sooner = trio.Event()

    def open(self, deadline: float) -> tuple[str, Waiter]:
        """A fresh reply subject and who waits there, up to ``deadline`` in trio's time."""
        subject = f"{self.inbox}.{next(self._tokens)}"
        waiter = self._waiters[subject] = Waiter(deadline)
        if deadline < self._look_at:
            self._sooner.set()
        return subject, waiter

    async def keep_deadlines(self) -> Never:
        """End each wait at its deadline: for all of them what a cancel scope would do for each."""
        while True:
            self._sooner = trio.Event()
            now, self._look_at = trio.current_time(), math.inf
            for waiter in self._waiters.values():
                if waiter.deadline <= now:
                    waiter.end()
                else:
                    self._look_at = min(self._look_at, waiter.deadline)
            with trio.move_on_at(self._look_at):
                await self._sooner.wait()

    def close(self, subject: str) -> None:
        """Nobody waits there any more."""
        self._waiters.pop(subject, None)

    def deliver(self, reply: RawMessage) -> None:
        """Hand a reply to whoever waits for it; one that comes too late is dropped."""
        waiter = self._waiters.get(reply.subject)
        if waiter is not None:
            waiter.tell(reply)

    def lose_all(self) -> None:
        """The connection is gone: nobody needs to wait any longer."""
        for waiter in self._waiters.values():
            waiter.lose()


def new_inbox() -> str:
    """A subject for replies that nobody else uses."""
    return f"_INBOX.{uuid.uuid4().hex}"
