"""What waits to be written to the connection, bounded in bytes."""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import trio

from pyoco_server.jetstream.errors import Malformed
from pyoco_server.jetstream.requests import Headers, Reply

_LIMIT_BYTES = 16 * 1024 * 1024
# What an item takes besides its text, roughly.
_ITEM_BYTES = 200

# In characters, of four bytes at most. nats-server's max_control_line is 4,096 bytes by default, for the line
# with subject, reply and sizes; it ends the connection over a longer one.
_LONGEST_SUBJECT = 900
_BAD_IN_SUBJECT = re.compile(r"[\x00-\x20\x7f]")
# RFC 9110's token: nats-py and nats-server take these.
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_BAD_IN_VALUE = re.compile(r"[\r\n\x00]")
# "NATS/1.0", its end of line, and the empty line behind the headers.
_HEADER_FRAME_BYTES = 12


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message to be published."""

    subject: str
    payload: bytes
    reply: str = ""
    headers: dict[str, str] | None = None

    @classmethod
    def checked(cls, subject: str, payload: bytes, reply: str, headers: Headers | None) -> Outgoing:
        """Make one of what a caller gave.

        Raises:
            Malformed: It would break the protocol for everybody on the connection.
        """
        for text in (subject, reply):
            if len(text) > _LONGEST_SUBJECT:
                raise Malformed(f"subject {text[:100]!r}…: over {_LONGEST_SUBJECT} characters")
            if _BAD_IN_SUBJECT.search(text):
                raise Malformed(
                    f"subject {text[:100]!r}: no spaces or control characters in subjects"
                )
        if not subject:
            raise Malformed("the subject is empty")
        for name, value in (headers or {}).items():
            if not _HEADER_NAME.fullmatch(name) or _BAD_IN_VALUE.search(value):
                raise Malformed(f"header {name[:100]!r}: its name or value cannot be in a header")
        return cls(subject, payload, reply, dict(headers) if headers else None)

    @property
    def size(self) -> int:
        """What counts against the server's ``max_payload``: the encoded headers and the payload."""
        if self.headers is None:
            return len(self.payload)
        lines = (len(f"{name}: {value}\r\n".encode()) for name, value in self.headers.items())
        return _HEADER_FRAME_BYTES + sum(lines) + len(self.payload)


@dataclass(frozen=True, eq=False)
class Feed:
    """A subscription that is made again with each connection.

    Attributes:
        subject: A subject, or a pattern.
        deliver: Told each message; must not block.
        lose: Told each time a connection ended.
    """

    subject: str
    deliver: Callable[[Reply], None]
    lose: Callable[[], None]

    def __post_init__(self) -> None:
        tokens = self.subject.split(".")
        if len(self.subject) > _LONGEST_SUBJECT:
            raise Malformed(f"pattern {self.subject[:100]!r}…: over {_LONGEST_SUBJECT} characters")
        if _BAD_IN_SUBJECT.search(self.subject) or not all(tokens) or ">" in tokens[:-1]:
            raise Malformed(f"{self.subject[:100]!r} is not a subject or pattern of subjects")


class Outbox:
    """A queue from trio tasks to the one asyncio task that writes."""

    def __init__(self) -> None:
        self._items: deque[Outgoing | Feed] = deque()
        self._bytes = 0
        self._shrunk = trio.Event()
        self._more = asyncio.Event()

    @property
    def full(self) -> bool:
        """Whether those who can wait should wait for `room`."""
        return self._bytes >= _LIMIT_BYTES

    async def room(self) -> None:
        """Wait until something was taken, or all was thrown away. For trio tasks."""
        await self._shrunk.wait()

    def put(self, item: Outgoing | Feed) -> None:
        """Append a message, or a feed that was opened or closed."""
        self._items.append(item)
        self._bytes += _weight(item)
        self._more.set()

    def take(self) -> Outgoing | Feed | None:
        """The next one; None when there is none."""
        if not self._items:
            return None
        item = self._items.popleft()
        self._bytes -= _weight(item)
        if not self.full:
            self._tell_shrunk()
        return item

    async def more(self) -> None:
        """Wait until something was put. For the asyncio task that takes."""
        await self._more.wait()
        self._more.clear()

    def clear(self) -> None:
        """Throw everything away: what it was meant for is gone."""
        self._items.clear()
        self._bytes = 0
        self._tell_shrunk()

    def _tell_shrunk(self) -> None:
        if self._shrunk.statistics().tasks_waiting:
            shrunk, self._shrunk = self._shrunk, trio.Event()
            shrunk.set()


def _weight(item: Outgoing | Feed) -> int:
    return _ITEM_BYTES + (len(item.payload) if isinstance(item, Outgoing) else 0)
