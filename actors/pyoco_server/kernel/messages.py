"""Requests with the type of their answer, and the one-shot replies that carry it back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

import trio

A = TypeVar("A")
A_co = TypeVar("A_co", covariant=True)


class Request(Generic[A_co]):
    """Base of messages that want an answer: ``class GetRun(Request[Run])`` is answered with a ``Run``.

    Subclasses are frozen dataclasses. A request may also be told instead of asked; the answer then
    goes nowhere.
    """

    __slots__ = ()


class Reply(Generic[A]):
    """The way back to one asker. It takes one outcome; later ones are ignored, as are late ones.

    An actor may answer while it handles the request or keep the reply and answer later, from any of
    its tasks. A reply that is still open when the actor ends fails with `ActorDown`.
    """

    __slots__ = ("_error", "_event", "_on_settled", "_value")

    def __init__(self) -> None:
        self._event = trio.Event()
        self._value: A | None = None
        self._error: Exception | None = None
        self._on_settled: Callable[[Reply[A]], None] | None = None

    @property
    def settled(self) -> bool:
        """Whether an outcome was given, or nobody waits for one any more."""
        return self._event.is_set()

    def send(self, value: A) -> None:
        """Answer with a value."""
        if not self.settled:
            self._value = value
            self._settle()

    def fail(self, error: Exception) -> None:
        """Answer with an error, a `Refusal` as a rule; it is raised where the asker waits."""
        if not self.settled:
            self._error = error
            self._settle()

    def _settle(self) -> None:
        self._event.set()
        if self._on_settled is not None:
            self._on_settled(self)

    async def outcome(self) -> A:
        """Wait for the outcome: return the value or raise the error. Cancelling it loses the answer."""
        await self._event.wait()
        if self._error is not None:
            raise self._error
        return self._value  # type: ignore[return-value] # set together with the event


class Envelope:
    """A message on its way: what is sent, who waits for the answer, and who sent it.

    ``log_fields`` are the asker's (structlog's context variables): what is done to answer it is part of
    what the asker does. A told message is the actor's own business.
    """

    __slots__ = ("log_fields", "message", "reply", "reply_taken", "sender")

    def __init__(
        self,
        message: object,
        reply: Reply[object] | None,
        sender: str | None,
        log_fields: Mapping[str, Any] | None = None,
    ) -> None:
        self.message = message
        self.reply = reply
        self.reply_taken = False
        self.sender = sender
        self.log_fields = log_fields
