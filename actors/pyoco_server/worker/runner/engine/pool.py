"""The threads in which tasks, and iterations of loops, run beside each other."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context


class Pool:
    """Threads for what runs at the same time, made when there is anything."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._threads: ThreadPoolExecutor | None = None
        self._has_thread = False

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_error: object) -> None:
        if self._threads is not None:
            self._threads.shutdown()

    def start(self, call: Callable[[], None]) -> None:
        """Call in a thread, now or when one is free.

        Raises:
            RuntimeError: There can be no thread.
        """
        if self._threads is None:
            self._threads = ThreadPoolExecutor(self.size, "task")
        try:
            self._threads.submit(copy_context().run, call)
        except RuntimeError:
            if not self._has_thread:  # which takes it in its turn
                raise
        self._has_thread = True
