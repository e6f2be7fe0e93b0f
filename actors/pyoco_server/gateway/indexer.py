"""Writes the read model: gathers changes, commits them together, and takes out what has expired."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, assert_never

import structlog
import trio

from pyoco_server.gateway.measures import Measures
from pyoco_server.gateway.read_model.model import ReadModel
from pyoco_server.gateway.read_model.rows import RunRow
from pyoco_server.gateway.read_model.writer import Applied, Changes, Position, Writer
from pyoco_server.kernel import Actor, Reply, Request

log = structlog.get_logger(__name__)

# Changes that come within it share a transaction, and lists are that much behind.
_GATHER_SECONDS: Final = 0.01
# With so many rows waiting, whoever brings more has to wait until they are being written.
_ROOM_ROWS: Final = 4096
_TICK_SECONDS: Final = 5.0
_RETRY_SECONDS: Final = 1.0

OnRemoved = Callable[[tuple[RunRow, ...]], None]
"""Told the runs that left the read model; must not block."""


@dataclass(frozen=True, slots=True)
class GetPosition(Request[Position]):
    """How far the read model is with what it was given; answered when its file is open."""


@dataclass(frozen=True, slots=True)
class Write(Request[None]):
    """Changes to write; answered as soon as there is room for more."""

    changes: Changes


@dataclass(frozen=True, slots=True)
class NotePresent(Request[None]):
    """Some of the keys that the bucket has, the first or further ones of a comparison."""

    keys: tuple[str, ...]
    first: bool


@dataclass(frozen=True, slots=True)
class DropAbsent(Request[int]):
    """Take out what was not noted as present, up to a revision; answered with how many runs that were."""

    seq: int


@dataclass(frozen=True, slots=True)
class GetTrouble(Request[str | None]):
    """Why the read model cannot be written at the moment; None when it can."""


@dataclass(frozen=True, slots=True)
class _Opened:
    position: Position


@dataclass(frozen=True, slots=True)
class _Due:
    pass


@dataclass(frozen=True, slots=True)
class _Written:
    applied: Applied


@dataclass(frozen=True, slots=True)
class _Removed:
    applied: Applied


@dataclass(frozen=True, slots=True)
class _Trouble:
    reason: str


_Event = _Opened | _Due | _Written | _Removed | _Trouble
IndexerMessage = GetPosition | Write | NotePresent | DropAbsent | GetTrouble | _Event


class Indexer(Actor[IndexerMessage]):
    """The only one that writes the read model.

    A full disk makes it wait and try again; a damaged file makes it crash, and the next incarnation builds
    another one.
    """

    def __init__(self, model: ReadModel, measures: Measures, on_removed: OnRemoved) -> None:
        self._model = model
        self._measures = measures
        self._on_removed = on_removed
        self._position: Position | None = None
        self._trouble: str | None = None
        self._pending: Changes | None = None
        self._writing = False
        self._askers: list[Reply[Position]] = []
        self._bringers: list[Reply[None]] = []

    async def on_start(self) -> None:
        """Begin to open the file."""
        self.spawn(self._open)

    async def on_stop(self) -> None:
        """Close the file."""
        await self._model.close()

    async def handle(self, message: IndexerMessage) -> None:
        """Gather, note an outcome, or answer."""
        match message:
            case GetPosition():
                self._askers.append(self.reply_to(message))
                self._answer()
            case Write(changes):
                self._gather(changes, self.reply_to(message))
            case NotePresent(keys, first):
                reply = self.reply_to(message)
                self.spawn(self._note, keys, first, reply)
            case DropAbsent(seq):
                self.spawn(self._drop, seq, self.reply_to(message))
            case GetTrouble():
                self.reply_to(message).send(self._trouble)
            case _Opened() | _Due() | _Written() | _Removed() | _Trouble():
                self._on_event(message)
            case _:
                assert_never(message)

    def _on_event(self, event: _Event) -> None:
        match event:
            case _Opened(position):
                self._position, self._trouble = position, None
                self.spawn(self._tick)
                self._answer()
            case _Due():
                self._commit()
            case _Written(applied):
                self._writing = False
                self._took_effect(applied)
                if self._pending is not None:
                    self._begin(self._pending)
            case _Removed(applied):
                self._took_effect(applied)
            case _Trouble(reason):
                if self._trouble != reason:
                    log.warning("read model cannot be written", reason=reason)
                self._trouble = reason
            case _:
                assert_never(event)

    def _gather(self, changes: Changes, reply: Reply[None]) -> None:
        self._pending = changes if self._pending is None else self._pending.merge(changes)
        self._bringers.append(reply)
        if len(self._pending.rows) + len(self._pending.others) < _ROOM_ROWS:
            self._let_in()
        if not self._writing:
            self._begin(self._pending)

    def _begin(self, pending: Changes) -> None:
        self._writing = True
        self.spawn(self._wait, 0.0 if len(pending.rows) > _ROOM_ROWS // 8 else _GATHER_SECONDS)

    def _commit(self) -> None:
        assert self._pending is not None
        changes, self._pending = self._pending, None
        self.spawn(self._write, changes)
        self._let_in()

    def _let_in(self) -> None:
        bringers, self._bringers = self._bringers, []
        for reply in bringers:
            reply.send(None)

    def _answer(self) -> None:
        if self._position is not None:
            askers, self._askers = self._askers, []
            for reply in askers:
                reply.send(self._position)

    def _took_effect(self, applied: Applied) -> None:
        self._position, self._trouble = applied.position, None
        self._measures.observe(applied)
        if applied.removed:
            self._on_removed(tuple(applied.removed))

    # Tasks that wait -------------------------------------------------------------------------------

    async def _wait(self, seconds: float) -> None:
        await trio.sleep(seconds)
        await self.me.tell(_Due())

    async def _open(self) -> None:
        while True:
            try:
                await self._model.open_writer()
                position = await self._model.write(Writer.position)
            except sqlite3.OperationalError as error:
                await self.me.tell(_Trouble(str(error)))
                await trio.sleep(_RETRY_SECONDS)
            else:
                await self.me.tell(_Opened(position))
                return

    async def _write(self, changes: Changes) -> None:
        while True:
            try:
                applied = await self._model.write(lambda writer: writer.apply(changes))
            except sqlite3.OperationalError as error:
                await self.me.tell(_Trouble(str(error)))
                await trio.sleep(_RETRY_SECONDS)
            else:
                await self.me.tell(_Written(applied))
                return

    async def _tick(self) -> None:
        while True:
            try:
                applied = await self._model.write(lambda writer: writer.expire(time.time()))
            except sqlite3.OperationalError as error:
                await self.me.tell(_Trouble(str(error)))
            else:
                if applied.removed:
                    await self.me.tell(_Removed(applied))
                    continue
            await trio.sleep(_TICK_SECONDS)

    async def _note(self, keys: tuple[str, ...], first: bool, reply: Reply[None]) -> None:
        try:
            await self._model.write(lambda writer: writer.note_present(keys, first=first))
        except sqlite3.OperationalError as error:
            reply.fail(error)
        else:
            reply.send(None)

    async def _drop(self, seq: int, reply: Reply[int]) -> None:
        try:
            applied = await self._model.write(lambda writer: writer.drop_absent(seq))
        except sqlite3.OperationalError as error:
            reply.fail(error)
        else:
            await self.me.tell(_Removed(applied))
            reply.send(len(applied.removed))
