"""The child's ends of the two pipes to its worker."""

from __future__ import annotations

import os
import sys
import threading
import traceback
from collections.abc import Iterator
from itertools import starmap
from select import PIPE_BUF
from typing import Final

from pyoco_server.worker.runner.protocol import (
    FROM_WORKER,
    Frames,
    FromChild,
    WorkerMessage,
    frame,
)

_READ_BYTES = 65536
# So much may lie in the pipe unannounced; a pipe takes 64 KiB (pipe(7)).
_QUIET_BYTES = 32 * 1024


BELL: Final = 3
"""The descriptor of the eventfd that has the worker look, in a child."""

_RING: Final = (1).to_bytes(8, sys.byteorder)  # what is written to it: eventfd(2)


def take_over_standard_streams() -> tuple[int, int]:
    """Keep standard input and output for the protocol; return the two descriptors.

    From now on, descriptor 0 reads nothing and 1 writes where 2 does, so that neither user code
    nor a process that it starts can come between the two sides.
    """
    requests, events = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return requests, events


def requests(descriptor: int) -> Iterator[WorkerMessage]:
    """Yield what the worker says, until it closes its end or is gone.

    Raises:
        ProtocolError: It said what is no message.
    """
    frames = Frames(FROM_WORKER, "worker")
    while data := os.read(descriptor, _READ_BYTES):
        yield from frames.feed(data)


class PieceWriter:
    """Writes into pipes piece by piece; none is lost or repeated where a signal handler raises in between.

    Attributes:
        pieces: What was begun, as long as some of it may be left; it goes before what is written next.
    """

    def __init__(self) -> None:
        self.pieces: list[tuple[int, memoryview]] = []
        self._written: list[int] = []

    def write(self, *parts: tuple[int, bytes]) -> None:
        """Write bytes, each to its descriptor."""
        self.finish()
        self._written = []
        self.pieces = [
            (descriptor, memoryview(data)[start : start + PIPE_BUF])
            for descriptor, data in parts
            for start in range(0, len(data), PIPE_BUF)
        ]
        self.finish()

    def finish(self) -> None:
        """Write what is left."""
        # In one step of the interpreter: handlers are called behind it, or in a write that waits. Such a
        # one has written nothing, for a pipe takes a piece whole or not at all (pipe(7)), and does not count.
        self._written.extend(starmap(os.write, self.pieces[len(self._written) :]))
        self.pieces = []


class EventPipe:
    """Sends messages to the worker, from any thread.

    The worker looks when the bell rings, so that a short run wakes it once. Sending blocks while the
    worker does not read: the pipe is all the memory that there is for messages on their way. A worker
    that is gone takes the whole process along.

    A forked copy of this process sends nothing, however it was made: it ends instead.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._writer = PieceWriter()
        self._process = os.getpid()
        self._quiet = 0  # bytes that no ring has announced yet
        self._lock = threading.Lock()
        self._holder: int | None = None

    @property
    def held_here(self) -> bool:
        """Whether this very thread is sending: it was interrupted by a signal or a finalizer."""
        return self._holder == threading.get_ident()

    def send(self, message: FromChild, *, quietly: bool = False) -> None:
        """Send a message, whole and in turn.

        Sent ``quietly``, it can wait for the next ring, by another message or by `ring`.
        """
        end_copy(self._process)
        data = frame(message)
        size = len(data)
        with self._lock:
            self._holder = threading.get_ident()
            try:
                self._quiet += size
                if self._quiet > _QUIET_BYTES:
                    # The rest may have to wait for the reader, which watches what has come in part.
                    begin, rest = (self._descriptor, data[:1]), (self._descriptor, data[1:])
                    self._writer.write(begin, (BELL, _RING), rest)
                    self._quiet = 0
                elif size > PIPE_BUF or self._writer.pieces:
                    self._writer.write((self._descriptor, data))
                else:
                    os.write(self._descriptor, data)
                if not quietly:
                    self._ring()
            except BrokenPipeError:
                os._exit(1)
            finally:
                self._holder = None

    def ring(self) -> None:
        """Have the worker look, if something was sent quietly; what was broken off is sent first."""
        if self._quiet and not self.held_here and os.getpid() == self._process:
            with self._lock:
                self._holder = threading.get_ident()
                try:
                    self._writer.finish()
                    self._ring()
                finally:
                    self._holder = None

    def _ring(self) -> None:
        self._quiet = 0
        os.eventfd_write(BELL, 1)

    def abandon(self) -> None:
        """Close the pipe in a forked copy of this process; the original alone may send."""
        os.close(self._descriptor)
        os.close(BELL)


def end_copy(process: int, error: BaseException | None = None) -> None:
    """End this process, as a program's end would, where it is a forked copy of another one.

    Args:
        process: The one whose code goes on; here, nothing happens.
        error: What the copy ends with.
    """
    if os.getpid() == process:
        return
    code = 0
    if isinstance(error, SystemExit):
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    elif error is not None:
        traceback.print_exception(error)
        code = 1
    os._exit(code)
