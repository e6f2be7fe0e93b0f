"""What all actors of one system share: the registry of paths, the monitors, the taps."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import Enum
from typing import Any

import trio

from .errors import ActorDown, UnknownActor
from .messages import Envelope
from .record import Record
from .ref import ActorRef


@dataclass(frozen=True)
class Down:
    """Told to a watcher (`Actor.monitor`) each time an incarnation of the watched actor ended.

    Attributes:
        path: The actor that ended.
        incarnation: Which life of it.
        reason: Text of the crash, or None where it ended in good order.
    """

    path: str
    incarnation: int
    reason: str | None


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


class Registry:
    """Belongs to one `ActorSystem`; nothing of it is global."""

    def __init__(self) -> None:
        self._refs: dict[str, ActorRef[Any]] = {}
        self._records: dict[str, Record] = {}
        self._watchers: dict[str, list[ActorRef[Any]]] = {}
        self._listeners: list[TapListener] = []
        self._sequence = itertools.count(1)

    def register(self, path: str, ref: ActorRef[Any] | None) -> Record:
        """Enter a place of the tree and return its record; ``ref`` is None for a supervisor.

        Raises:
            InvalidSpec: The spec behind ``ref`` already stands in a tree.
        """
        assert path not in self._records  # supervisors see to it that the ids of siblings differ
        record = self._records[path] = Record(path)
        if ref is not None:
            ref._adopt(path, self._sent)
            self._refs[path] = ref
        return record

    def ref(self, path: str) -> ActorRef[Any]:
        """The reference of the actor at ``path``.

        Raises:
            UnknownActor: Nothing stands there; the text names what does.
        """
        try:
            return self._refs[path]
        except KeyError:
            known = ", ".join(sorted(self._refs)) or "none"
            raise UnknownActor(f"no actor at {path!r}; there are: {known}") from None

    def monitor(self, watched: ActorRef[Any], watcher: ActorRef[Any]) -> None:
        """Tell ``watcher`` a `Down` when an incarnation of ``watched`` ends; once, however often asked.

        Raises:
            UnknownActor: ``watched`` does not stand in this system.
        """
        if self._refs.get(watched.path) is not watched:
            raise UnknownActor(f"no actor at {watched.path!r} to monitor")
        watchers = self._watchers.setdefault(watched.path, [])
        if watcher not in watchers:
            watchers.append(watcher)

    def announce_end(self, record: Record, reason: str | None) -> None:
        """Tell the watchers of ``record`` that its incarnation ended."""
        down = Down(record.path, record.incarnation, reason)
        for watcher in self._watchers.get(record.path, ()):
            with suppress(ActorDown):
                watcher._notify(down, record.path)

    @contextmanager
    def tap(self, listener: TapListener) -> Iterator[None]:
        """Call ``listener`` with each event inside of the block. It must not block nor raise."""
        self._listeners.append(listener)
        try:
            yield
        finally:
            self._listeners.remove(listener)

    def observe(
        self,
        kind: TapKind,
        record: Record,
        envelope: Envelope | None = None,
        error: BaseException | None = None,
    ) -> None:
        """Report to the taps what happened to a message, or without one to an incarnation."""
        if not self._listeners:
            return
        event = TapEvent(
            sequence=next(self._sequence),
            at=trio.current_time(),
            path=record.path,
            incarnation=record.incarnation,
            sender=None if envelope is None else envelope.sender,
            kind=kind,
            message=None if envelope is None else envelope.message,
            error=error,
        )
        for listener in tuple(self._listeners):
            listener(event)

    def _sent(self, path: str, envelope: Envelope) -> None:
        kind = TapKind.TOLD if envelope.reply is None else TapKind.ASKED
        self.observe(kind, self._records[path], envelope)
