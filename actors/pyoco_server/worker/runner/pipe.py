"""The child's ends of the two pipes to its worker."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator

from pyoco_server.worker.runner.protocol import (
    ChildMessage,
    EnvironmentNeeded,
    FrameBuffer,
    WorkerMessage,
    frame,
    worker_message,
)

_READ_BYTES = 65536


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
    frames = FrameBuffer()
    while data := os.read(descriptor, _READ_BYTES):
        for body in frames.feed(data):
            yield worker_message(body)


class EventPipe:
    """Sends messages to the worker, from any thread.

    Sending blocks while the worker does not read: the pipe is all the memory that there is for
    messages on their way. A worker that is gone takes the whole process along.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lock = threading.Lock()
        self._holder: int | None = None

    @property
    def held_here(self) -> bool:
        """Whether this very thread is sending: it was interrupted by a signal or a finalizer."""
        return self._holder == threading.get_ident()

    def send(self, message: ChildMessage | EnvironmentNeeded) -> None:
        """Send a message, whole and in turn."""
        data = memoryview(frame(message))
        with self._lock:
            self._holder = threading.get_ident()
            try:
                while data:
                    data = data[os.write(self._descriptor, data) :]
            except BrokenPipeError:
                os._exit(1)
            finally:
                self._holder = None

    def abandon(self) -> None:
        """Close the pipe in a forked copy of this process; the original alone may send."""
        os.close(self._descriptor)
