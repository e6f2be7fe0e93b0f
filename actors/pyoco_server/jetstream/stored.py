"""Messages as a stream holds them: read and deleted by their sequence, beside any consumer.

Each call raises `NotFound` where the stream does not exist, and another `BridgeError` where JetStream refused
or could not be asked.
"""

from __future__ import annotations

from datetime import datetime

import msgspec

from pyoco_server.jetstream.api import Anything, call
from pyoco_server.jetstream.connection import Connection
from pyoco_server.jetstream.errors import NO_MESSAGE, NOT_DELETED, ApiError, NotFound


class StoredMessage(msgspec.Struct, frozen=True):
    """A message of a stream.

    Attributes:
        subject: What it was published to.
        sequence: Its sequence.
        time: When it was stored, as the server writes it.
        data: Its bytes.
        headers: The bytes that hold its headers.
    """

    subject: str
    sequence: int = msgspec.field(name="seq")
    time: str
    data: bytes = b""
    headers: bytes = msgspec.field(name="hdrs", default=b"")

    @property
    def stored_at(self) -> float:
        """When it was stored, in unix seconds of the server's clock."""
        return datetime.fromisoformat(self.time).timestamp()


class _Found(msgspec.Struct):
    message: StoredMessage


async def get_message(
    connection: Connection, stream: str, sequence: int, *, next_of: str | None = None
) -> StoredMessage | None:
    """Read the message at a sequence, or from there on the ``next_of`` a subject; None for none."""
    body: dict[str, object] = {"seq": sequence}
    if next_of is not None:
        body["next_by_subj"] = next_of
    return await _get(connection, stream, body, within=5.0)


async def last_message(
    connection: Connection, stream: str, subject: str, *, within: float = 5.0
) -> StoredMessage | None:
    """Read the last message of a subject or pattern, from the stream's leader; None where there is none."""
    return await _get(connection, stream, {"last_by_subj": subject}, within=within)


async def last_sequence(
    connection: Connection, stream: str, subject: str, *, within: float = 5.0
) -> int:
    """Return the sequence of the last message of a subject or pattern; 0 where there is none."""
    message = await last_message(connection, stream, subject, within=within)
    return 0 if message is None else message.sequence


async def _get(
    connection: Connection, stream: str, body: dict[str, object], *, within: float
) -> StoredMessage | None:
    try:
        found = await call(
            connection, f"STREAM.MSG.GET.{stream}", body, answer=_Found, within=within
        )
    except NotFound as error:
        if error.err_code == NO_MESSAGE:
            return None
        raise
    return found.message


async def purge_subject(
    connection: Connection, stream: str, subject: str, *, within: float = 10.0
) -> None:
    """Remove all messages of a subject from a stream."""
    await call(
        connection, f"STREAM.PURGE.{stream}", {"filter": subject}, answer=Anything, within=within
    )


async def delete_message(connection: Connection, stream: str, sequence: int) -> None:
    """Delete a message; nothing happens where it is gone."""
    try:
        await call(
            connection,
            f"STREAM.MSG.DELETE.{stream}",
            {"seq": sequence, "no_erase": True},
            answer=Anything,
        )
    except ApiError as error:
        if error.err_code not in NOT_DELETED:
            raise
