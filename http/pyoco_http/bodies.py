"""Bodies of requests: taken only from those who were let in, no faster than they are used, up to a limit.

A route takes up to ``PYOCO_HTTP_MAX_BODY_BYTES``. One that takes more, or less, says so::

    @blueprint.post("")
    @access(Access.ADMIN)
    @body_limit(settings.wheel_max_bytes, detail="wheel too large")
    async def upload() -> ...:
        async for chunk in request.body:  # at most a few of them wait here in memory
            ...
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import trio
from quart_trio.wrappers import TrioRequest
from quart_trio.wrappers.request import TrioBody

from pyoco_http.call import Call
from pyoco_http.problems import Problem
from pyoco_server.model.errors import ErrorId

if TYPE_CHECKING:
    from pyoco_http.open_streams import EventStream

F = TypeVar("F", bound=Callable[..., Any])

_ATTRIBUTE = "__pyoco_body_limit__"
# What is read ahead of a handler that takes the body in pieces.
_AHEAD_BYTES = 1024 * 1024
# The rest of a body that is worth waiting for, to keep the connection, when the answer is there already.
_SMALL_BYTES = 64 * 1024
_SMALL_SECONDS = 0.1
# A multipart form has headers and borders around the file that it is about.
FORM_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class BodyLimit:
    """How large a body may be.

    Attributes:
        most_bytes: Its size at most.
        detail: What is answered, with 413, to a larger one.
        error_id: The id of that answer.
    """

    most_bytes: int
    detail: str = "body too large"
    error_id: ErrorId = ErrorId.INVALID_INPUT

    def problem(self) -> Problem:
        """The refusal of a larger one."""
        return Problem(
            413,
            self.detail,
            self.error_id,
            reason=f"at most {self.most_bytes} bytes are taken here",
            max_bytes=self.most_bytes,
        )


def body_limit(
    most_bytes: int,
    *,
    detail: str = "body too large",
    error_id: ErrorId = ErrorId.INVALID_INPUT,
) -> Callable[[F], F]:
    """Declare how large a body the route below takes, in bytes; see the module's own text."""

    def declare(view: F) -> F:
        setattr(view, _ATTRIBUTE, BodyLimit(most_bytes, detail, error_id))
        return view

    return declare


def limit_of(view: Callable[..., Any], default: BodyLimit) -> BodyLimit:
    """How large a body a route takes."""
    limit = getattr(view, _ATTRIBUTE, default)
    return limit if isinstance(limit, BodyLimit) else default


class Body(TrioBody):
    """A body that flows in only once it is admitted, with back-pressure and an exact limit.

    Attributes:
        received: How many bytes have come in.
        complete: Whether all of it has, or no more of it is taken.
    """

    def __init__(self, expected_bytes: int | None, _: int | None) -> None:
        super().__init__(expected_bytes, None)
        self._expected = expected_bytes
        self._limit: BodyLimit | None = None
        self._gate = trio.Event()
        self._dropped = False
        self._wanted_whole = False
        self._taken = trio.Event()
        self.received = 0

    @property
    def complete(self) -> bool:
        """Whether nothing more is to come."""
        return self._complete.is_set()

    @property
    def awaited(self) -> bool:
        """Whether more is to come, and somebody wants it."""
        return not (self.complete or self._dropped)

    def admit(self, limit: BodyLimit) -> None:
        """Let it flow in.

        Raises:
            Problem: Its head says already that it is too large.
        """
        if self._expected is not None and self._expected > limit.most_bytes:
            raise limit.problem()
        self._limit = limit
        self._gate.set()

    async def dropped(self) -> bool:
        """Take no more of it: what still comes in is thrown away, since the answer was found without it.

        Returns:
            Whether that was all of it, so that another request may follow. A small rest is waited for.
        """
        if not self.complete:
            self._dropped = True
            self._data.clear()
            self._gate.set()
            self._wake()
            if (self._expected or 0) <= _SMALL_BYTES:
                with trio.move_on_after(_SMALL_SECONDS):
                    await self._complete.wait()
        return self.complete and self._must_raise is None

    def fail(self, error: Exception) -> None:
        """End it with an error, which is raised where the handler reads."""
        if not self.complete and not self._dropped:
            self._must_raise = error
            self._data.clear()
            self.set_complete()

    def append(self, data: bytes) -> None:
        """Take what came in."""
        self.received += len(data)
        if self._dropped or self.complete:
            return
        if self._limit is not None and self.received > self._limit.most_bytes:
            self.fail(self._limit.problem())
        else:
            super().append(data)

    async def has_room(self) -> None:
        """Wait until more may come in."""
        await self._gate.wait()
        while len(self._data) > _AHEAD_BYTES and not (self._wanted_whole or self._dropped):
            await self._taken.wait()

    def _wake(self) -> None:
        taken, self._taken = self._taken, trio.Event()
        taken.set()

    async def __anext__(self) -> bytes:
        try:
            data = await super().__anext__()
        except StopAsyncIteration:
            if self._must_raise is not None:
                raise self._must_raise from None
            raise
        self._wake()
        return data

    def __await__(self) -> Generator[Any, None, Any]:
        self._wanted_whole = True
        self._wake()
        return super().__await__()


class GatewayRequest(TrioRequest):
    """A request with such a body, and what is learned of it on the way.

    Attributes:
        call: The same, as every route sees it.
        event_stream: The stream that it is answered with, if it is.
    """

    body_class = Body  # type: ignore[assignment]
    body: Body
    call: Call
    event_stream: EventStream | None = None
