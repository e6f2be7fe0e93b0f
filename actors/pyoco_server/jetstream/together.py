"""Many things with NATS at the same time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

import trio

from pyoco_server.jetstream.errors import BridgeError

T = TypeVar("T")


async def for_each(items: Iterable[T], do: Callable[[T], Awaitable[object]], at_once: int) -> None:
    """Do something for each, so many at the same time.

    Where NATS fails one of them, those that have begun go on to their end, and no further one begins.

    Raises:
        BridgeError: The first that one of them raised.
    """
    room = trio.CapacityLimiter(at_once)
    failures: list[BridgeError] = []

    async def one(item: T) -> None:
        async with room:
            if failures:
                return
            try:
                await do(item)
            except BridgeError as error:
                failures.append(error)

    async with trio.open_nursery() as nursery:
        for item in items:
            nursery.start_soon(one, item)
    if failures:
        raise failures[0]
