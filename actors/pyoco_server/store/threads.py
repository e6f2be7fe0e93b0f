"""Blocking calls in threads, on a machine that may have none left."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TypeVar, TypeVarTuple, Unpack

import trio

from pyoco_server.model.errors import NO_THREAD

# To read more keeps a core busy for milliseconds, up to seconds.
_AT_ONCE_BYTES = 64 * 1024

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


async def in_thread(
    function: Callable[[Unpack[Ts]], T],
    *args: *Ts,
    abandon_on_cancel: bool = False,
    limiter: trio.CapacityLimiter | None = None,
) -> T:
    """Call a function that blocks for a moment in a thread; here, where there is no thread left."""
    try:
        return await trio.to_thread.run_sync(
            function, *args, abandon_on_cancel=abandon_on_cancel, limiter=limiter
        )
    except RuntimeError as error:
        if str(error) != NO_THREAD:
            raise
    return function(*args)


async def read_aside(size: int, read: Callable[[], T]) -> T:
    """What is read of so many bytes: in a thread, beside other work, where they are many."""
    return read() if size <= _AT_ONCE_BYTES else await trio.to_thread.run_sync(read)


def no_thread_is_os_error() -> AbstractContextManager[None]:
    """Have a thread that cannot be started raise what a process does that cannot be made, an `OSError`.

    For calls that take too long to be made here.
    """
    return no_thread_is(OSError(errno.EAGAIN, NO_THREAD))


@contextmanager
def no_thread_is(instead: Exception) -> Iterator[None]:
    """Have a thread that cannot be started raise another error."""
    try:
        yield
    except RuntimeError as error:
        if str(error) != NO_THREAD:
            raise
        raise instead from error
