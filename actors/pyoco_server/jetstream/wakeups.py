"""Wake-ups: JetStream says when it is time for something, to one of those that wait for it.

A message is held back under a subject of its own until it is due, and then moved to a work queue by the
server, whose clock is the only one that counts (ADR-51 of nats-architecture-and-design, nats-server 2.12).
One that falls due while the server is away is moved when it is back.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

from pyoco_server.jetstream.api import Anything, call
from pyoco_server.jetstream.connection import Connection
from pyoco_server.jetstream.consumer import PullConsumer
from pyoco_server.jetstream.errors import CONSUMER_EXISTS, ApiError
from pyoco_server.jetstream.inventory import stream_info
from pyoco_server.jetstream.publish import publish_acked

STREAM: Final = "PYOCO_SCHEDULES"
SUBJECT_PREFIX: Final = "pyoco.schedules"
DURABLE: Final = "pyoco_scheduler"

_DUE: Final = f"{SUBJECT_PREFIX}.due"
_LATER: Final = f"{SUBJECT_PREFIX}.later"
_ACK_WAIT_NANOSECONDS: Final = 30 * 1_000_000_000


async def keeps_time(connection: Connection) -> bool:
    """Whether the server can hold messages back; asking it tells its time as well.

    Raises:
        BridgeError: NATS could not be asked.
    """
    info = await stream_info(connection, STREAM)
    return info is not None and bool(info.config.get("allow_msg_schedules"))


async def wake(connection: Connection, key: str, at: float) -> None:
    """Have a key delivered when it is time, in the place of an earlier wake-up of that key.

    Args:
        connection: The way to NATS.
        key: What to wake: tokens of a subject.
        at: When, in unix seconds; at once for a moment that is over.

    Raises:
        BridgeError: It is not known to be stored.
    """
    moment = datetime.fromtimestamp(at, UTC).isoformat()
    headers = {"Nats-Schedule": f"@at {moment}", "Nats-Schedule-Target": f"{_DUE}.{key}"}
    await publish_acked(connection, f"{_LATER}.{key}", b"", headers=headers)


def open_wakeups(connection: Connection) -> PullConsumer:
    """The wake-ups that are due, shared by all who take them; see `ensure_wakeups`."""
    return PullConsumer(connection, STREAM, DURABLE)


def woken(subject: str) -> str:
    """The key that a delivered wake-up is for."""
    return subject.removeprefix(f"{_DUE}.")


async def ensure_wakeups(connection: Connection) -> None:
    """Create the consumer that all gateways share; nothing happens where it exists.

    Raises:
        ApiError: JetStream refused.
        BridgeError: Not connected, or not answered.
    """
    subject = f"{_DUE}.>"
    config: dict[str, Any] = {
        "durable_name": DURABLE,
        "name": DURABLE,
        "filter_subject": subject,
        "ack_policy": "explicit",
        "deliver_policy": "all",
        "replay_policy": "instant",
        "ack_wait": _ACK_WAIT_NANOSECONDS,
        "max_deliver": -1,
        "max_ack_pending": 5000,
    }
    body = {"stream_name": STREAM, "config": config, "action": "create"}
    try:
        await call(
            connection, f"CONSUMER.CREATE.{STREAM}.{DURABLE}.{subject}", body, answer=Anything
        )
    except ApiError as error:
        if error.err_code not in CONSUMER_EXISTS:
            raise
