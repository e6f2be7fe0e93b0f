"""Bodies of requests: taken only from those who were let in, no faster than they are used, up to a limit.

A route takes up to ``PYOCO_HTTP_MAX_BODY_BYTES``; one that takes more, or less, is described with its limit.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeVar

import msgspec
import trio
from quart import request
from quart_trio.wrappers import TrioRequest

from pyoco_http.problems import Problem, unknown_name
from pyoco_http.sse import OpenStream
from pyoco_server.api.base import JsonBody, NoFields
from pyoco_server.model.errors import ErrorId
from pyoco_server.model.json_text import KeyGivenTwice, NestedTooDeeply, check_keys
from pyoco_server.store.threads import read_aside

Receive = Callable[[], Awaitable[Any]]
B = TypeVar("B", bound=JsonBody)

# Slower is a trickle that holds a place.
BYTES_A_SECOND: Final = 10_000
# The rest of a body that is worth waiting for, to keep the connection, when the answer is there already.
_SMALL_BYTES = 64 * 1024
_SMALL_SECONDS = 0.1
# A multipart form has headers and borders around the file that it is about.
FORM_BYTES = 64 * 1024
# What msgspec says of a field that a struct does not have, and where it found one that is wrong.
_UNKNOWN: Final = re.compile(r"Object contains unknown field `(.*)`")
_FIELD: Final = re.compile(r"required field `(\w+)`|at `\$\.(\w+)")


@dataclass(frozen=True, slots=True)
class BodyLimit:
    """How large a body may be, and what is answered, with 413, to a larger one."""

    most_bytes: int
    detail: str = "body too large"

    def check(self, size: int | None) -> None:
        """Refuse a body of so many bytes, as far as that is known.

        Raises:
            Problem: It is too large.
        """
        most = self.most_bytes
        if size is not None and size > most:
            reason = f"at most {most} bytes are taken here"
            raise Problem(413, self.detail, ErrorId.INVALID_INPUT, reason=reason, max_bytes=most)


class Body:
    """A body that comes in as it is read: not before it is admitted, nor faster, nor beyond its limit.

    It is read in pieces, by ``async for``, or whole, by ``await``; both raise a `Problem` where it is too
    large, or its client too slow.

    Attributes:
        received: How many bytes have come in.
        complete: Whether all of it has.
    """

    def __init__(self, expected_bytes: int | None, _: int | None = None) -> None:
        self._expected = expected_bytes
        self._limit: BodyLimit | None = None
        self._receive: Receive | None = None
        self._seconds = 0.0
        self._waited = 0.0
        self.received = 0
        self.complete = False

    def come_from(self, receive: Receive, seconds: float) -> None:
        """Say where it comes from, as messages of ASGI, and how many seconds it may let wait."""
        self._receive = receive
        self._seconds = seconds

    def admit(self, limit: BodyLimit) -> None:
        """Let it be read.

        Raises:
            Problem: Its head says already that it is too large.
        """
        limit.check(self._expected)
        self._limit = limit

    async def dropped(self) -> bool:
        """Read no more of it, since the answer was found; a small rest is waited for, and thrown away.

        Returns:
            Whether that was all of it, so that another request may follow.
        """
        if not self.complete and (self._expected or 0) <= _SMALL_BYTES:
            with trio.move_on_after(_SMALL_SECONDS):
                while not self.complete:
                    await self._next()
        return self.complete

    async def _next(self) -> bytes:
        assert self._receive is not None
        message = await self._receive()
        if message["type"] == "http.disconnect":
            await trio.sleep_forever()  # who serves the client ends this, too
        self.complete = not message.get("more_body", False)
        data: bytes = message.get("body", b"")
        self.received += len(data)
        return data

    def __aiter__(self) -> Body:
        return self

    async def __anext__(self) -> bytes:
        assert self._limit is not None
        while not self.complete:
            began = trio.current_time()
            # It may be late by the time that it takes at the lowest rate; slower is a trickle.
            late = self.received / BYTES_A_SECOND - self._waited
            data: bytes | None = None
            with trio.move_on_after(max(self._seconds + min(late, 0), 0)):
                data = await self._next()
            if data is None:
                reason = f"the body came slower than {BYTES_A_SECOND} bytes a second"
                raise Problem(408, "request timeout", ErrorId.INVALID_INPUT, reason=reason)
            self._waited += trio.current_time() - began
            self._limit.check(self.received)
            if data:
                return data
        raise StopAsyncIteration

    def __await__(self) -> Generator[Any, None, bytes]:
        return self._whole().__await__()

    async def _whole(self) -> bytes:
        return b"".join([piece async for piece in self])


class GatewayRequest(TrioRequest):
    """A request with such a body, and the stream that it is answered with, if it is."""

    body_class = Body  # type: ignore[assignment]
    body: Body  # type: ignore[assignment]
    event_stream: OpenStream | None = None


async def read_body(kind: type[B]) -> B:
    """Read the body of the request in hand; as `read_json`, aside where it is large."""
    raw: bytes = await request.body
    return await read_aside(len(raw), partial(read_json, raw, kind))


def read_nothing(raw: bytes) -> None:
    """Make sure that a body says nothing that would be ignored.

    Raises:
        Problem: It does, or is no JSON.
    """
    if raw:
        read_json(raw, NoFields)


def read_json(raw: bytes, kind: type[B], *, keys_checked: bool = False) -> B:
    """Read a body of JSON.

    Args:
        raw: The body.
        kind: What it is.
        keys_checked: Whether it is known that no object of it has a key twice, or not to be known here.

    Raises:
        Problem: It is none, lacks a field, or has one that is not known, cannot be used or is given twice.
    """
    field: dict[str, Any] = {}
    try:
        body = msgspec.json.decode(raw, type=kind)
        if not keys_checked:
            check_keys(raw)
    except RecursionError:
        reason = str(NestedTooDeeply())
    except KeyGivenTwice as error:
        reason = str(error)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        reason = str(error)
        if unknown := _UNKNOWN.match(reason):
            names = kind.__struct_encode_fields__
            raise unknown_name("field", unknown[1], names, kind.refusal, kind.error_id) from None
        if found := _FIELD.search(reason):
            field["field"] = found[1] or found[2]
    else:
        return body
    if not field and len(kind.__struct_fields__) == 1:
        field["field"] = kind.__struct_encode_fields__[0]
    detail = kind.refusal or f"invalid request body: {reason}"
    raise Problem(422, detail, kind.error_id, reason=reason, **field)
