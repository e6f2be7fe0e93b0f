"""What tasks print: tagged with the task, sent soon, and never more than there is room for."""

from __future__ import annotations

import codecs
import io
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from pyoco_server.worker.runner import libc
from pyoco_server.worker.runner.engine.task_record import task_here
from pyoco_server.worker.runner.pipe import EventPipe
from pyoco_server.worker.runner.printed import Allowance, RewrittenLines
from pyoco_server.worker.runner.protocol import Output, StreamName

CHUNK_CHARACTERS: Final = 16_384
"""How much text waits to be sent; a thread that prints more waits until it is."""

_INTERVAL_SECONDS: Final = 0.03


@dataclass(slots=True)
class _Piece:
    """Text that one task printed to one stream, and nobody else in between."""

    run_id: str | None
    task: str | None
    stream: StreamName
    at: float
    parts: list[str] = field(default_factory=list)


class OutputPump:
    """Takes text from the threads that print and sends it to the worker.

    The first line after a pause is sent at once, and what follows gathers for a moment, so that
    a crash takes little along and a burst of lines makes few messages. A thread that prints
    faster than the worker reads is held up. Of one run, text up to ``limit`` characters is sent.
    """

    def __init__(self, pipe: EventPipe, limit: int) -> None:
        self._pipe = pipe
        self._allowance = Allowance(limit)
        self._run_id: str | None = None
        # In a copy of this process that a task has for itself: takes what it prints, or returns False.
        self.relay: Callable[[StreamName, str], bool] | None = None
        # Re-entrant, for a signal handler or finalizer may print in the middle of all this.
        self._lock = threading.RLock()
        self._sending = False
        # What such an interruption of a thread that is sending prints; it cannot wait for a lock.
        self._aside: deque[tuple[StreamName, str]] = deque()
        self._process = os.getpid()
        self._pieces: list[_Piece] = []
        self._characters = 0
        self._sent_at = 0.0
        self._rewritten = RewrittenLines()
        # Told of how a line is at the moment that is written over and over.
        self.on_rewritten: Callable[[str], None] | None = None
        self._waiting = threading.Event()
        # Sends what else is due, and returns in how many seconds there is more.
        self.also: Callable[[], float | None] | None = None
        threading.Thread(target=self._send_later, name="output", daemon=True).start()

    @property
    def forked(self) -> bool:
        """Whether this is a forked copy of the process, which has no part in the protocol."""
        return os.getpid() != self._process

    def begin(self, run_id: str) -> None:
        """Tag what is printed from now on with this run, and count anew."""
        with self._lock:
            self.flush()
            self._run_id = run_id
            self._allowance.renew()

    def end(self) -> int:
        """Send what the run printed, and return how many characters were left out.

        What its threads still print is of no run.
        """
        with self._lock:
            self.end_task(None)
            self._run_id = None
            return self._allowance.renew()

    def end_task(self, task: str | None) -> None:
        """Send what the task printed, which prints no more; with None, what all did."""
        with self._lock:
            for stream, text in self._rewritten.end(task):
                self._take(stream, text)
            self.flush()

    def write(self, stream: StreamName, text: str) -> None:
        """Take text; wait until there is room for it."""
        if self._pipe.held_here:
            self._aside.append((stream, text))
            self._waiting.set()
            return
        try:
            with self._lock:
                if "\r" in text:  # print() writes its text and its end one after the other
                    text = self._pull_back(stream) + text
                text = self._rewritten.take(task_here(), stream, text)
                for start in range(0, len(text), CHUNK_CHARACTERS):
                    self._take(stream, text[start : start + CHUNK_CHARACTERS])
                    # A line is sent whole: print() writes its text and its end one after the other.
                    quiet = time.monotonic() - self._sent_at >= _INTERVAL_SECONDS
                    due = quiet and text.endswith("\n")
                    if due or self._characters >= CHUNK_CHARACTERS:
                        self.flush()
                state = self._rewritten.state(task_here(), stream)
                told = self.on_rewritten
            if state is not None and told is not None:
                told(state)
        finally:  # what a signal handler raises breaks off is sent, too
            self._waiting.set()

    def _pull_back(self, stream: StreamName) -> str:
        """Return what was printed last of a line that has no end, as far as it is not sent yet."""
        last = self._begun_piece(stream)
        if last is None:
            return ""
        head, end, begun = "".join(last.parts).rpartition("\n")
        last.parts = [head + end]
        if not head + end:
            self._pieces.pop()
        self._characters -= len(begun)
        self._allowance.give_back(len(begun))
        return begun

    def announce_soon(self) -> None:
        """Have the worker look in a moment at what was sent to it quietly."""
        if not self._waiting.is_set():  # to say it again takes far longer than to look
            self._waiting.set()

    def flush(self) -> None:
        """Send what there is."""
        if not self._pieces and not self._aside:
            self._sent_at = time.monotonic()
            return
        if self.forked or self._pipe.held_here:
            return
        with self._lock:
            if self._sending:
                return  # an interruption of this thread's own sending: what it adds goes out later
            self._sending = True
            try:
                while self._aside:
                    self._take(*self._aside.popleft())
                self._characters = 0
                while self._pieces:
                    self._send(self._pieces.pop(0))
            finally:
                self._sending = False
                self._sent_at = time.monotonic()

    def _take(self, stream: StreamName, text: str) -> None:
        text = self._allowance.take(text)
        if not text:
            return
        last = self._begun_piece(stream)
        if last is None:
            last = _Piece(self._run_id, task_here(), stream, time.time())
            self._pieces.append(last)
        last.parts.append(text)
        self._characters += len(text)

    def _begun_piece(self, stream: StreamName) -> _Piece | None:
        """The last piece, where what is printed now goes on with it."""
        last = self._pieces[-1] if self._pieces else None
        now = (self._run_id, task_here(), stream)
        return last if last and (last.run_id, last.task, last.stream) == now else None

    def _send(self, piece: _Piece) -> None:
        # Lone surrogates cannot be sent; the terminal of Python's own streams escapes them too.
        text = "".join(piece.parts).encode("utf-8", "backslashreplace").decode("utf-8")
        self._pipe.send(
            Output(
                run_id=piece.run_id, task=piece.task, stream=piece.stream, text=text, at=piece.at
            )
        )

    def _send_later(self) -> None:
        again: float | None = None
        while True:
            self._waiting.wait(again)
            self._waiting.clear()
            time.sleep(_INTERVAL_SECONDS)
            self.flush()
            also = self.also
            again = None if also is None else also()
            self._pipe.ring()


class TaskStream(io.TextIOWrapper):
    """A ``sys.stdout`` or ``sys.stderr`` that hands text to the pump, as it is printed."""

    def __init__(self, pump: OutputPump, stream: StreamName, descriptor: int) -> None:
        self._pump = pump
        self._stream: StreamName = stream
        self._bytes = _BinaryStream(self, descriptor, f"<{stream}>")
        super().__init__(
            self._bytes,
            encoding="utf-8",
            errors="backslashreplace",
            line_buffering=True,
            write_through=True,
        )

    @property
    def mode(self) -> str:
        """That of a file that is written."""
        return "w"

    def write(self, text: str, /) -> int:
        """Take text; see `OutputPump.write`. However it is to be encoded, it is sent as it is."""
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        if self.closed:
            raise ValueError("I/O operation on closed file.")
        self.take(text)
        return len(text)

    def take(self, text: str) -> None:
        """Take text, whether the stream is open or not."""
        if self._pump.forked:
            if self._pump.relay is not None and self._pump.relay(self._stream, text):
                return
            os.write(self._bytes.fileno(), text.encode("utf-8", "backslashreplace"))
        else:
            self._pump.write(self._stream, text)

    def flush(self) -> None:
        """Send what was printed."""
        self._pump.flush()

    def end_character(self) -> None:
        """Take what bytes there are of a character that has not come whole."""
        self._bytes.end_character()

    @property
    def pristine(self) -> bool:
        """Whether it is as it was made."""
        try:
            return (
                not self.closed
                and self.line_buffering
                and self.write_through
                and self.encoding == "utf-8"
                and self.errors == "backslashreplace"
            )
        except ValueError:  # it was detached from its bytes
            return False


class _BinaryStream(io.RawIOBase):
    """The ``buffer`` of a stream, for code that writes bytes."""

    def __init__(self, stream: TaskStream, descriptor: int, name: str) -> None:
        self._text = stream
        self._descriptor = descriptor
        self.name = name
        self.mode = "wb"
        self._decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")

    @property
    def raw(self) -> io.RawIOBase:
        return self

    def write(self, data: Any, /) -> int:
        if self.closed:
            raise ValueError("I/O operation on closed file.")
        raw = bytes(data)
        self._text.take(self._decoder.decode(raw))
        return len(raw)

    def end_character(self) -> None:
        if self._decoder.getstate()[0]:
            self._text.take(self._decoder.decode(b"", final=True))

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        """A descriptor that a process of the flow's own may be given as its output."""
        return self._descriptor


class Streams:
    """The standard streams of a child: everything that Python code prints goes to the pump.

    A forked copy of the process has no part in the protocol; it prints to the bare descriptors,
    which the worker reads as well.
    """

    def __init__(self, pump: OutputPump, pipe: EventPipe) -> None:
        self._pump = pump
        self._abandon = pipe.abandon
        self._own = (TaskStream(pump, "stdout", 1), TaskStream(pump, "stderr", 2))
        self._install()
        os.register_at_fork(after_in_child=self._step_out)

    def _install(self) -> None:
        sys.stdout, sys.stderr = self._own
        sys.__stdout__, sys.__stderr__ = self._own  # type: ignore[misc]

    def end_run(self, *, all_of_c: bool) -> None:
        """Take what the run printed and is still held back somewhere.

        Args:
            all_of_c: Whether all files of C code are written out, not only its standard output; a thread that
                a run left may hold one for ever.
        """
        libc.flush(every_file=all_of_c)
        for stream in self._own:
            stream.end_character()

    def renew(self) -> None:
        """Put streams in place as a fresh child has them."""
        if not all(stream.pristine for stream in self._own):
            self._own = (TaskStream(self._pump, "stdout", 1), TaskStream(self._pump, "stderr", 2))
        self._install()

    @property
    def pristine(self) -> bool:
        """Whether they are as in a fresh child."""
        out, err = self._own
        return (
            sys.stdout is sys.__stdout__ is out
            and sys.stderr is sys.__stderr__ is err
            and out.pristine
            and err.pristine
        )

    def _step_out(self) -> None:
        self._abandon()
        # The engine wraps the streams with a lock that another thread may have held.
        sys.stdout, sys.stderr = self._own
