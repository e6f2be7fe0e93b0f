"""Wake-ups: JetStream says when it is time for something, to one of those that wait for it.

A message for each is held back until then (`publish.delayed`), and comes to a work queue.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from typing import Final

from pyoco_server.jetstream.connection import Connection
from pyoco_server.jetstream.consumer import create_consumer
from pyoco_server.jetstream.errors import BridgeError
from pyoco_server.jetstream.inventory import stream_info
from pyoco_server.jetstream.publish import delayed, publish, publish_batch
from pyoco_server.jetstream.together import for_each

STREAM: Final = "PYOCO_SCHEDULES"
SUBJECT_PREFIX: Final = "pyoco.schedules"
DURABLE: Final = "pyoco_scheduler"

_DUE: Final = f"{SUBJECT_PREFIX}.due"
_LATER: Final = f"{SUBJECT_PREFIX}.later"
_ACK_WAIT_SECONDS: Final = 30.0
_AT_ONCE: Final = 64


async def keeps_time(connection: Connection) -> bool:
    """Whether the server can hold messages back; asking it tells its time as well.

    Raises:
        BridgeError: NATS could not be asked.
    """
    info = await stream_info(connection, STREAM)
    return info is not None and info.holds_back


async def wake(connection: Connection, keys: Mapping[str, float]) -> None:
    """Have keys delivered when it is time, each in the place of an earlier wake-up of that key.

    A key is a token of a subject; its time is in unix seconds, and one that is over means at once.

    Raises:
        BridgeError: Not all are known to be stored.
    """
    messages = [delayed(f"{_LATER}.{key}", f"{_DUE}.{key}", b"", at) for key, at in keys.items()]
    if len(messages) > 1:
        with suppress(BridgeError):
            await publish_batch(connection, messages)
            return
    await for_each(messages, partial(publish, connection), _AT_ONCE)


def woken(subject: str) -> str:
    """The key that a delivered wake-up is for."""
    return subject.removeprefix(f"{_DUE}.")


async def ensure_wakeups(connection: Connection) -> None:
    """Create the consumer that all gateways share; raises as `create_consumer`."""
    await create_consumer(
        connection,
        STREAM,
        DURABLE,
        subject=f"{_DUE}.>",
        ack_wait_sec=_ACK_WAIT_SECONDS,
        max_ack_pending=5000,
    )
