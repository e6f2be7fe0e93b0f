"""Several blocking streams read as one."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Came(Generic[T]):
    """An item of the stream ``source``."""

    source: str
    item: T


@dataclass(frozen=True, slots=True)
class Ended:
    """The stream ``source`` has ended, because of ``error`` if there is one."""

    source: str
    error: Exception | None


def merged(
    streams: Mapping[str, Iterator[T]], *, last: str, grace_seconds: float
) -> Iterator[Came[T] | Ended]:
    """Give what comes on any of the streams, each in its order.

    Each stream is read by a thread of its own, which does nothing but read: so Ctrl-C gets through at
    once, and a stream that hangs does not hold up the end of the program.

    Args:
        streams: The streams by their names.
        last: The one that decides when it is over.
        grace_seconds: How long the others may go on after it has ended.
    """
    arrived: queue.SimpleQueue[Came[T] | Ended] = queue.SimpleQueue()

    def read(name: str, stream: Iterator[T]) -> None:
        error: Exception | None = None
        try:
            for item in stream:
                arrived.put(Came(name, item))
        except Exception as failure:  # noqa: BLE001 - whoever iterates decides what it means
            error = failure
        arrived.put(Ended(name, error))

    for name, stream in streams.items():
        threading.Thread(target=read, args=(name, stream), daemon=True, name=name).start()
    going, until = set(streams), float("inf")
    while going:
        try:
            # Without a timeout the wait could not be interrupted on every platform.
            came = arrived.get(timeout=min(max(until - time.monotonic(), 0.0), 3600.0))
        except queue.Empty:
            if time.monotonic() >= until:
                return
            continue
        if isinstance(came, Ended):
            going.discard(came.source)
            if came.source == last:
                until = time.monotonic() + grace_seconds
        yield came
