"""What all actors of one system share: the registry of paths, the monitors, the taps."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import trio

from .errors import ActorDown, InvalidSpec, UnknownActor
from .mailbox import Mailbox
from .messages import Envelope
from .record import Record
from .ref import ActorRef
from .tap import TapEvent, TapKind, TapListener


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


class Switchboard:
    """Belongs to one `ActorSystem`; nothing of it is global."""

    def __init__(self) -> None:
        self._refs: dict[str, ActorRef[Any]] = {}
        self._records: dict[str, Record] = {}
        self._watchers: dict[str, list[Mailbox]] = {}
        self._listeners: list[TapListener] = []
        self._sequence = itertools.count(1)

    def register(self, record: Record, ref: ActorRef[Any] | None) -> None:
        """Enter a place of the tree under its path."""
        if record.path in self._records:
            raise InvalidSpec(f"two children claim the path {record.path}")
        self._records[record.path] = record
        if ref is not None:
            if ref.path in self._refs and self._refs[ref.path] is ref:
                raise InvalidSpec(f"the spec of {ref.path} is used twice; make one for each place")
            self._refs[record.path] = ref
            ref._adopt(record.path, self._sent)

    def unregister(self, path: str) -> None:
        """Take a place off the tree; its watchers stay for the one that is put there again."""
        self._records.pop(path, None)
        self._refs.pop(path, None)

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

    def monitor(self, path: str, watcher: Mailbox) -> None:
        """Tell ``watcher`` a `Down` when an incarnation at ``path`` ends; once, however often asked."""
        if path not in self._records:
            raise UnknownActor(f"no actor at {path!r} to monitor")
        watchers = self._watchers.setdefault(path, [])
        if watcher not in watchers:
            watchers.append(watcher)

    def announce_end(self, record: Record, reason: str | None) -> None:
        """Tell the watchers of ``record`` that its incarnation ended."""
        down = Down(record.path, record.incarnation, reason)
        for watcher in tuple(self._watchers.get(record.path, ())):
            try:
                watcher.put_nowait(Envelope(down, None, record.path), control=True)
            except ActorDown:
                self._watchers[record.path].remove(watcher)

    @contextmanager
    def tap(self, listener: TapListener) -> Iterator[None]:
        """Call ``listener`` with each event inside of the block. It must not block nor raise."""
        self._listeners.append(listener)
        try:
            yield
        finally:
            self._listeners.remove(listener)

    def observe(
        self, kind: TapKind, record: Record, envelope: Envelope, error: Exception | None = None
    ) -> None:
        """Report to the taps what happened to a message."""
        if not self._listeners:
            return
        event = TapEvent(
            sequence=next(self._sequence),
            at=trio.current_time(),
            path=record.path,
            incarnation=record.incarnation,
            sender=envelope.sender,
            kind=kind,
            message=envelope.message,
            error=error,
        )
        for listener in tuple(self._listeners):
            listener(event)

    def _sent(self, path: str, envelope: Envelope) -> None:
        kind = TapKind.TOLD if envelope.reply is None else TapKind.ASKED
        self.observe(kind, self._records[path], envelope)
