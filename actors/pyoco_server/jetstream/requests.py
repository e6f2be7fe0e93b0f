"""Requests and replies in flight: one inbox, a token each, no task of its own for any of them."""

from __future__ import annotations

import itertools
import uuid
from collections import deque
from collections.abc import Mapping

import trio

Headers = Mapping[str, str]
Ahead = tuple[str, bytes, Headers]
"""A message that goes before a request: its subject, payload and headers."""

_NONE: Headers = {}
_VERSION = b"NATS/1.0"


class Reply:
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
        return int(text) if text.isdigit() else None

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
    if status.isdigit():
        headers["Status"] = status
        if description := description.strip():
            headers["Description"] = description
    for line in lines:
        name, colon, value = line.partition(":")
        if colon:
            headers[name.strip()] = value.strip()
    return headers


class Waiter:
    """One open request, or one open pull; told each reply, or that the connection is gone."""

    __slots__ = ("_event", "lost", "replies")

    def __init__(self) -> None:
        self.replies: deque[Reply] = deque()
        self.lost = False
        self._event: trio.Event | None = None

    def tell(self, reply: Reply) -> None:
        """A reply came."""
        self.replies.append(reply)
        if self._event is not None:
            self._event.set()

    def lose(self) -> None:
        """The connection is gone; nothing will come any more."""
        self.lost = True
        if self._event is not None:
            self._event.set()

    async def next(self) -> Reply | None:
        """Wait for the next reply; None when none will come. Cancelling it loses nothing."""
        while not self.replies:
            if self.lost:
                return None
            self._event = trio.Event()
            await self._event.wait()
        return self.replies.popleft()


class Switchboard:
    """Who waits for which reply subject; all replies come over one subscription.

    Args:
        inbox: The reply subjects are below it.
    """

    def __init__(self, inbox: str) -> None:
        self.inbox = inbox
        self._tokens = itertools.count(1)
        self._waiters: dict[str, Waiter] = {}

    def open(self) -> tuple[str, Waiter]:
        """A fresh reply subject and who waits there."""
        subject = f"{self.inbox}.{next(self._tokens)}"
        waiter = self._waiters[subject] = Waiter()
        return subject, waiter

    def close(self, subject: str) -> None:
        """Nobody waits there any more."""
        self._waiters.pop(subject, None)

    def deliver(self, reply: Reply) -> None:
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
