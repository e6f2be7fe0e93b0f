"""Writes the read model: gathers changes, commits them together, and takes out what is gone."""

from __future__ import annotations

import math
import sqlite3
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from functools import partial
from typing import Final, TypeVar

import structlog
import trio
from trio.lowlevel import ParkingLot

from pyoco_server.gateway.measures import Measures
from pyoco_server.gateway.read_model.model import ReadModel
from pyoco_server.gateway.read_model.rows import RunRow
from pyoco_server.gateway.read_model.writer import Applied, Changes, Position, Writer
from pyoco_server.jetstream.connection import Connection
from pyoco_server.jetstream.errors import BridgeError
from pyoco_server.jetstream.inventory import bucket_keys, stream_state

T = TypeVar("T")

log = structlog.get_logger(__name__)

# Changes that come within it share a transaction, and lists are that much behind.
_GATHER_SECONDS: Final = 0.01
# Where much is written, more is gathered, so that the writing takes one part in so many of the time; by
# then lists are this much behind, and one state of a run is written instead of three.
_REST: Final = 19.0
_LONGEST_REST_SECONDS: Final = 0.25
# So many changes are written at once.
_MANY: Final = 512
# With so many waiting, whoever brings more has to wait until they are being written.
_ROOM: Final = 4096
_EXPIRE_SECONDS: Final = 5.0
_COMPARE_SECONDS: Final = 30.0
_RETRY_SECONDS: Final = 1.0

OnRemoved = Callable[[tuple[RunRow, ...]], None]
"""Told the runs that left the read model; must not block."""


class Indexer:
    """The only one that writes the read model; `write`, `expire` and `compare` run for as long as it is open.

    A full disk, or a machine without a thread left, makes it wait and try again; a damaged file makes it
    fail, and `write`, begun again, builds another one.

    Attributes:
        position: How far the read model is; None while its file is not open.
        trouble: Why it cannot be written at the moment; None when it can.
    """

    def __init__(
        self,
        model: ReadModel,
        connection: Connection,
        bucket: str,
        measures: Measures,
        on_removed: OnRemoved,
    ) -> None:
        self._model = model
        self._connection = connection
        self._bucket = bucket
        self._measures = measures
        self._on_removed = on_removed
        self.position: Position | None = None
        self.trouble: str | None = None
        self._pending: Changes | None = None
        self._writing: Changes | None = None
        self._rest_until = -math.inf
        # The revisions that somebody waits for.
        self._awaited: list[int] = []
        self._moved = ParkingLot()
        self._came = ParkingLot()
        self._taken = ParkingLot()

    async def opened(self) -> Position:
        """Wait until the file is open; return how far it is."""
        while self.position is None:
            await self._moved.park()
        return self.position

    async def reached(self, seq: int) -> None:
        """Wait until the read model can be read and has everything up to a revision; that is hurried."""
        if self.has(seq):
            return
        self._awaited.append(seq)
        if self._urgent:
            self._came.unpark_all()
        try:
            while not self.has(seq):
                await self._moved.park()
        finally:
            self._awaited.remove(seq)

    def has(self, seq: int) -> bool:
        """Whether the read model can be read and has everything up to a revision."""
        now = self.position
        return now is not None and now.built and now.seq >= seq

    async def put(self, changes: Changes) -> None:
        """Have changes written; waits until there is room for more."""
        if self._pending is None:
            self._pending = changes
            self._came.unpark_all()
        else:
            self._pending.add(changes)
        if self._urgent:
            self._came.unpark_all()
        while self._waiting >= _ROOM:
            await self._taken.park()

    async def drop(self, run_ids: list[str]) -> None:
        """Take runs out that are not in the bucket any more.

        Raises:
            sqlite3.DatabaseError: It cannot be written now.
        """
        if run_ids and self.position is not None:
            self._tell_removed(await self._model.write(lambda writer: writer.drop(run_ids)))

    async def close(self) -> None:
        """Close the file; what was not written is forgotten."""
        self.position = self._pending = self._writing = None
        await self._model.close()

    # Tasks -----------------------------------------------------------------------------------------

    async def write(self) -> None:
        """Open the file, and write what comes."""
        self._moves_to(await self._when_it_can(self._model.open_writer))
        while True:
            changes = self._writing = await self._gathered()
            applied, seconds = await self._when_it_can(partial(self._apply, changes))
            self._rest_until = trio.current_time() + min(_REST * seconds, _LONGEST_REST_SECONDS)
            self._measures.observe(applied)
            self._tell_removed(applied)
            self._writing = None
            self._moves_to(applied.position)

    async def expire(self) -> None:
        """Take out what goes away by itself, every few seconds."""
        await self.opened()
        while True:
            try:
                applied = await self._model.write(
                    partial(Writer.expire, now=self._connection.clock.now())
                )
            except sqlite3.OperationalError as error:
                self._note_trouble(error)
            else:
                # What cannot be written is tried again by `write`.
                if applied.removed or self._writing is None:
                    self.trouble = None
                if applied.removed:
                    self._tell_removed(applied)
                    continue
            await trio.sleep(_EXPIRE_SECONDS)

    async def compare(self) -> None:
        """Compare the read model with its bucket every half minute: no watch tells of keys that expired."""
        await self.opened()
        while True:
            try:
                await self._compare()
            except (BridgeError, sqlite3.OperationalError) as error:
                log.info("read model not compared with its bucket", reason=str(error))
            await trio.sleep(_COMPARE_SECONDS)

    # -----------------------------------------------------------------------------------------------

    @property
    def _urgent(self) -> bool:
        """Whether what waits is to be written now: it is much, or what somebody waits for."""
        pending = self._pending
        if pending is None:
            return False
        return len(pending) >= _MANY or any(seq <= pending.seq for seq in self._awaited)

    @property
    def _waiting(self) -> int:
        return 0 if self._pending is None else len(self._pending)

    async def _gathered(self) -> Changes:
        while self._pending is None:
            await self._came.park()
        with trio.move_on_at(max(trio.current_time() + _GATHER_SECONDS, self._rest_until)):
            while not self._urgent:
                await self._came.park()
        changes, self._pending = self._pending, None
        self._taken.unpark_all()
        return changes

    async def _apply(self, changes: Changes) -> tuple[Applied, float]:
        def work(writer: Writer) -> tuple[Applied, float]:
            began = time.thread_time()
            applied = writer.apply(changes)
            return applied, time.thread_time() - began

        return await self._model.write(work)

    async def _when_it_can(self, work: Callable[[], Awaitable[T]]) -> T:
        while True:
            try:
                return await work()
            except sqlite3.OperationalError as error:
                self._note_trouble(error)
                await trio.sleep(_RETRY_SECONDS)

    async def _compare(self) -> None:
        """Compare the numbers of keys, which is one cheap question, and the keys only where they differ."""
        # In this order a run that is created meanwhile can only make the bucket look larger.
        keys = await self._model.write(Writer.keys)
        state = await stream_state(self._connection, f"KV_{self._bucket}")
        if self.position is None or not self.position.built or keys <= state.num_subjects:
            return
        first = True
        async with aclosing(bucket_keys(self._connection, self._bucket)) as pages:
            async for page in pages:
                note = partial(Writer.note_present, keys=tuple(page), first=first)
                await self._model.write(note)
                first = False
        applied = await self._model.write(lambda writer: writer.drop_absent(state.last_seq))
        self._tell_removed(applied)
        if applied.removed:
            log.info("runs have expired", count=len(applied.removed))

    def _moves_to(self, position: Position) -> None:
        self.position, self.trouble = position, None
        self._moved.unpark_all()

    def _tell_removed(self, applied: Applied) -> None:
        # One that was made anew under its id meanwhile has been told of.
        removed = tuple(row for row in applied.removed if not self._is_to_come(row.run_id))
        if removed:
            self._on_removed(removed)

    def _is_to_come(self, run_id: str) -> bool:
        """Whether a state of the run is yet to be written, which everybody else knows already."""
        unwritten = (self._writing, self._pending)
        return any(changes is not None and run_id in changes.rows for changes in unwritten)

    def _note_trouble(self, error: sqlite3.OperationalError) -> None:
        if self.trouble != str(error):
            log.warning("read model cannot be written", reason=str(error))
        self.trouble = str(error)
