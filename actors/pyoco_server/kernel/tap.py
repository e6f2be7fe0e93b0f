"""A look at every message as it is sent and handled, and at who lives: for recording and for tests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum


class TapKind(Enum):
    """What happened: to a message, or to an incarnation of an actor."""

    STARTED = "started"
    """An incarnation begins; there is no message."""
    DIED = "died"
    """An incarnation ended by an error, from a message or from a task of its own; there is no message."""
    TOLD = "told"
    ASKED = "asked"
    HANDLED = "handled"
    REFUSED = "refused"
    CRASHED = "crashed"


@dataclass(frozen=True)
class TapEvent:
    """One thing that happened to one message, or to an incarnation.

    Attributes:
        sequence: Rises by one with each event of the system.
        at: Seconds of the trio clock.
        path: The actor that the message was sent to.
        incarnation: Which life of that actor, counting from 1; 0 before its first start.
        sender: Path of the sending actor, None for code outside of the tree.
        kind: What happened.
        message: The message itself, frozen; None where the kind knows none.
        error: The refusal or crash, where the kind says so.
    """

    sequence: int
    at: float
    path: str
    incarnation: int
    sender: str | None
    kind: TapKind
    message: object
    error: BaseException | None = None


TapListener = Callable[[TapEvent], None]
