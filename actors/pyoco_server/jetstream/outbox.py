"""What waits to be written to the connection, bounded in bytes."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import msgspec
import trio

from pyoco_server.jetstream.errors import Malformed
from pyoco_server.jetstream.requests import Headers, RawMessage

_LIMIT_BYTES = 16 * 1024 * 1024
# What an item takes besides its payload, roughly.
_ITEM_BYTES = 200

# In characters, of four bytes at most. nats-server's max_control_line is 4,096 bytes by default, for the line
# with subject, reply and sizes; it ends the connection over a longer one.
_LONGEST_SUBJECT = 900
_BAD_IN_SUBJECT = re.compile(r"[\x00-\x20\x7f]")
# RFC 9110's token: nats-py and nats-server take these.
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_BAD_IN_VALUE = re.compile(r"[\r\n\x00]")


class Outgoing(msgspec.Struct, frozen=True):
    """A message to be published.

    Attributes:
        head: What goes before the payload on the wire: the line with subject and sizes, and the headers.
        payload: The bytes.
        size: What counts against the server's ``max_payload``: the encoded headers and the payload.
    """

    head: bytes
    payload: bytes
    size: int

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
        try:
            if not headers:
                size = len(payload)
                return cls(f"PUB {subject} {reply} {size}\r\n".encode(), payload, size)
            lines = "".join([_header(name, value) for name, value in headers.items()])
            block = f"NATS/1.0\r\n{lines}\r\n".encode()
            size = len(block) + len(payload)
            line = f"HPUB {subject} {reply} {len(block)} {size}\r\n".encode()
        except UnicodeEncodeError as error:
            raise Malformed(f"subject {subject[:100]!r}, or a header: {error}") from None
        return cls(line + block, payload, size)


def _header(name: str, value: str) -> str:
    if not _is_name(name) or _BAD_IN_VALUE.search(value):
        raise Malformed(f"header {name[:100]!r}: its name or value cannot be in a header")
    return f"{name}: {value}\r\n"


@lru_cache(maxsize=256)
def _is_name(name: str) -> bool:
    return _HEADER_NAME.fullmatch(name) is not None


@dataclass(frozen=True, eq=False)
class Feed:
    """A subscription that is made again with each connection.

    Attributes:
        subject: A subject, or a pattern.
        deliver: Told each message; must not block.
        lose: Told each time a connection ended.
        size: What counts of it beside messages: nothing.
    """

    size: ClassVar = 0
    subject: str
    deliver: Callable[[RawMessage], None]
    lose: Callable[[], None]

    def __post_init__(self) -> None:
        tokens = self.subject.split(".")
        if len(self.subject) > _LONGEST_SUBJECT:
            raise Malformed(f"pattern {self.subject[:100]!r}…: over {_LONGEST_SUBJECT} characters")
        if _BAD_IN_SUBJECT.search(self.subject) or not all(tokens) or ">" in tokens[:-1]:
            raise Malformed(f"{self.subject[:100]!r} is not a subject or pattern of subjects")


class Outbox:
    """A queue from those who publish to the session that writes."""

    def __init__(self) -> None:
        self._items: deque[Outgoing | Feed] = deque()
        self._bytes = 0
        self._shrunk = trio.Event()
        self._rung = trio.Event()

    @property
    def full(self) -> bool:
        """Whether those who can wait should wait for `room`."""
        return self._bytes >= _LIMIT_BYTES

    async def room(self) -> None:
        """Wait, where it is full, until it is not, or all was thrown away."""
        await self._shrunk.wait()

    def put(self, item: Outgoing | Feed) -> None:
        """Append a message, or a feed that was opened or closed."""
        self._items.append(item)
        self._bytes += _ITEM_BYTES + item.size

    def take(self) -> Outgoing | Feed | None:
        """The next one; None when there is none."""
        if not self._items:
            return None
        item, was_full = self._items.popleft(), self.full
        self._bytes -= _ITEM_BYTES + item.size
        if was_full and not self.full:
            self._tell_shrunk()
        return item

    def ring(self) -> None:
        """Tell `rung` that there is something to take."""
        self._rung.set()

    async def rung(self) -> None:
        """Wait for the next `ring`, for those who take."""
        await self._rung.wait()
        self._rung = trio.Event()

    def clear(self) -> None:
        """Throw everything away: what it was meant for is gone."""
        self._items.clear()
        self._bytes = 0
        self._tell_shrunk()

    def _tell_shrunk(self) -> None:
        shrunk, self._shrunk = self._shrunk, trio.Event()
        shrunk.set()
