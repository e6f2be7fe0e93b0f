"""JetStream's word that it will not deliver a message any more, kept in a stream so that none is missed.

The server publishes it when a later pull finds a message whose deliveries are used up.
"""

from __future__ import annotations

from typing import Final

import msgspec

from pyoco_server.jetstream.connection import Connection
from pyoco_server.jetstream.consumer import create_consumer

STREAM: Final = "PYOCO_ADVISORIES"
DURABLE: Final = "pyoco_reaper"
_PREFIX: Final = "$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES"
_ACK_WAIT_SECONDS: Final = 30.0


class MaxDeliveries(msgspec.Struct, kw_only=True):
    """A message that is not delivered any more (``io.nats.jetstream.advisory.v1.max_deliver``)."""

    stream: str
    consumer: str
    stream_seq: int
    deliveries: int = 0


def advisory_subject(work_stream: str) -> str:
    """The subjects on which the server tells of a stream's consumers."""
    return f"{_PREFIX}.{work_stream}.>"


async def ensure_advisory_consumer(connection: Connection) -> None:
    """Create the consumer that all gateways share; raises as `create_consumer`."""
    await create_consumer(
        connection, STREAM, DURABLE, ack_wait_sec=_ACK_WAIT_SECONDS, max_ack_pending=1000
    )


def decode_advisory(raw: bytes) -> MaxDeliveries | None:
    """Read an advisory; None for something else."""
    try:
        return msgspec.json.decode(raw, type=MaxDeliveries)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
