"""The read model for trio tasks: one writing thread, some reading ones, never the event loop.

Its file is one that no other process has.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final, TypeVar

import structlog
import trio

from pyoco_server.gateway.read_model.queries import time_limit
from pyoco_server.gateway.read_model.schema import open_reader
from pyoco_server.gateway.read_model.writer import Position, Writer, remove_file
from pyoco_server.kernel import Refusal
from pyoco_server.model.errors import NO_THREAD
from pyoco_server.store.threads import in_thread, no_thread_is

T = TypeVar("T")

log = structlog.get_logger(__name__)

READERS: Final = 4
QUERY_SECONDS: Final = 2.0
_MOST_GATEWAYS: Final = 64


class NotReadable(Refusal):
    """The read model cannot answer yet; the text says why."""


class ReadModel:
    """A file of the read model, and who may use it.

    Args:
        state_dir: The folder of what outlives the process; the file lies below it.
    """

    def __init__(self, state_dir: Path) -> None:
        self._state_dir = state_dir
        self._writing = trio.CapacityLimiter(1)
        self._reading = trio.CapacityLimiter(READERS)
        self._writer: Writer | None = None
        self._idle: list[sqlite3.Connection] = []
        # Readers of a file that was removed meanwhile are not used again.
        self._generation = 0
        self._claim = ExitStack()
        self._path: Path | None = None
        # What a reader or the writer found: the file is not to be used any more.
        self._damage: sqlite3.DatabaseError | None = None

    async def open_writer(self) -> Position:
        """Take a file and open it for writing; one that cannot be used is replaced. Return how far it is.

        Raises:
            sqlite3.Error: It could not be made.
        """
        await self.close()
        self._writer = await _in_thread(self._make_writer, self._writing)
        return self._writer.position

    def _make_writer(self) -> Writer:
        if self._path is None:
            self._path = self._claim.enter_context(claimed_file(self._state_dir))
        damage, self._damage = self._damage, None
        try:
            if damage is not None:
                raise damage
            return Writer(self._path)
        except sqlite3.OperationalError:
            raise  # the disk is full, or the like: another file would fare no better
        except sqlite3.DatabaseError as error:
            log.warning("read model is built again", reason=str(error), path=str(self._path))
            remove_file(self._path)
            return Writer(self._path)

    async def close(self) -> None:
        """Close the file and give it up; once begun, it is not cancelled."""
        self._generation += 1
        idle, self._idle = self._idle, []
        writer, self._writer = self._writer, None
        claim, self._claim = self._claim, ExitStack()
        self._path = None

        def close() -> None:
            with claim:
                for db in idle:
                    db.close()
                if writer is not None:
                    writer.close()

        await in_thread(close, limiter=self._writing)

    async def write(self, work: Callable[[Writer], T]) -> T:
        """Let the writer work, in its thread; once begun, it is not cancelled.

        Raises:
            sqlite3.OperationalError: For the moment it cannot, for want of space or of a thread.
            sqlite3.DatabaseError: The file is damaged, as a reader may have found before: `open_writer`
                builds it anew.
        """
        writer = self._writer
        assert writer is not None, "write() comes after open_writer()"
        if self._damage is not None:
            raise self._damage
        try:
            return await _in_thread(lambda: work(writer), self._writing)
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError as error:
            if writer is self._writer:
                self._damage = error
            raise

    async def read(self, query: Callable[[sqlite3.Connection], T]) -> T:
        """Ask the file as it is at one moment, with a time limit of `QUERY_SECONDS`.

        Raises:
            SearchTooWide: It took longer.
            NotReadable: There is no file, or not a good one, at the moment, or no thread for it.
        """
        path, generation = self._path, self._generation
        if path is None or self._writer is None:
            raise NotReadable("the read model is not open")

        def ask() -> T:
            with self._reader(path) as db, time_limit(db, QUERY_SECONDS):
                # All that the query reads is of one moment; where it fails, the connection is closed.
                db.execute("BEGIN")
                answer = query(db)
                db.execute("ROLLBACK")
                return answer

        try:
            return await _in_thread(ask, self._reading)
        except sqlite3.Error as error:
            # Of this very class is what SQLite says of damage, and nothing that a query may do wrong.
            if type(error) is sqlite3.DatabaseError and generation == self._generation:
                self._damage = error
            raise NotReadable(f"the read model cannot be read: {error}") from None

    @contextmanager
    def _reader(self, path: Path) -> Iterator[sqlite3.Connection]:
        generation = self._generation
        try:
            db = self._idle.pop()
        except IndexError:
            db = open_reader(path)
        good = False
        try:
            yield db
            good = True
        finally:
            if good and generation == self._generation:
                self._idle.append(db)
            else:
                db.close()


async def _in_thread(work: Callable[[], T], limiter: trio.CapacityLimiter) -> T:
    """Do it in a thread. Where there is none left, that is like a full disk: it may be over in a moment."""
    with no_thread_is(sqlite3.OperationalError(NO_THREAD)):
        return await trio.to_thread.run_sync(work, limiter=limiter)


@contextmanager
def claimed_file(state_dir: Path) -> Iterator[Path]:
    """The first file of ``state_dir``/read_model that is free; it is this process's inside of the block.

    A gateway that starts again finds its file of before, unless another one was quicker: the files are copies
    of the same bucket, so it does not matter. Where the folder cannot be used, the file is a temporary one.
    """
    try:
        descriptor, path = _claim(state_dir / "read_model")
    except OSError as error:
        log.warning(
            "read model kept in a temporary file, and built again at each start",
            reason=f"{error.filename or state_dir}: {error.strerror or error}",
        )
        with tempfile.TemporaryDirectory(prefix="pyoco-read-model-") as folder:
            yield Path(folder) / "0.sqlite3"
        return
    try:
        yield path
    finally:
        os.close(descriptor)


def _claim(folder: Path) -> tuple[int, Path]:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(_MOST_GATEWAYS):
        # A lock ends with the process that holds it, however that ends.
        descriptor = os.open(
            folder / f"{number}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
        )
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
        except BaseException:  # whatever it was: the descriptor must not stay open
            os.close(descriptor)
            raise
        else:
            return descriptor, folder / f"{number}.sqlite3"
    raise OSError(None, f"{_MOST_GATEWAYS} gateways hold a file there already", str(folder))
