"""How a cancel reaches all that a run does at the moment: who waits, and who can be stopped."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class CancelSignal:
    """Whether a run is to stop; asked by one thread and heard by others."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._asked: threading.Event | None = None
        self._stops: list[Callable[[], None]] = []
        self.asked = False

    def ask(self) -> None:
        """Stop what is going on, now and from now on."""
        with self._lock:
            self.asked = True
            if self._asked is not None:
                self._asked.set()
            stops = list(self._stops)
        for stop in stops:
            stop()

    def wait(self, seconds: float) -> bool:
        """Wait for so long, or until it is asked for; return whether it was."""
        with self._lock:
            if self._asked is None:  # most runs wait for nothing
                self._asked = threading.Event()
                if self.asked:
                    self._asked.set()
        return self._asked.wait(seconds)

    @contextmanager
    def calling(self, stop: Callable[[], None]) -> Iterator[None]:
        """Have ``stop`` called when it is asked for in the block, or was before; from any thread."""
        with self._lock:
            self._stops.append(stop)
            asked = self.asked
        try:
            if asked:
                stop()
            yield
        finally:
            with self._lock:
                self._stops.remove(stop)
