"""The entries of a bucket that can be read."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from pyoco_server.jetstream.keyvalue import Entry, KeyValue
from pyoco_server.model.errors import ModelError

T = TypeVar("T")


async def readable(bucket: KeyValue, read: Callable[[Entry], T]) -> list[T]:
    """What ``read`` makes of each entry; without those of which it makes nothing, but a `ModelError`.

    Waits for NATS: put a deadline around it.

    Raises:
        BridgeError: NATS could not be asked.
    """
    found: list[T] = []
    for entry in await bucket.all():
        with suppress(ModelError):
            found.append(read(entry))
    return found
