"""Messages as a stream holds them: read and deleted by their sequence, beside any consumer."""

from __future__ import annotations

import base64
from dataclasses import dataclass

import msgspec

from pyoco_server.jetstream.api import call
from pyoco_server.jetstream.connection import Connection
from pyoco_server.jetstream.errors import ApiError, NotFound
from pyoco_server.jetstream.keyvalue import unix_time

# JetStream's "no message found" (nats-server, server/errors.json); another 404 is a missing stream.
_NO_MESSAGE = 10037
_NOT_DELETED = (10057, 10043)


class _Stored(msgspec.Struct):
    subject: str
    seq: int
    time: str
    data: str = ""


class _GetAnswer(msgspec.Struct):
    message: _Stored


class _State(msgspec.Struct):
    messages: int = 0
    first_seq: int = 0
    last_seq: int = 0


class _Info(msgspec.Struct):
    state: _State


class _Purged(msgspec.Struct):
    purged: int = 0


class _Anything(msgspec.Struct):
    pass


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """A message of a stream.

    Attributes:
        subject: What it was published to.
        sequence: Its sequence.
        stored_at: When it was stored, in unix seconds of the server's clock.
        data: Its bytes.
    """

    subject: str
    sequence: int
    stored_at: float
    data: bytes


@dataclass(frozen=True, slots=True)
class StreamState:
    """How many messages a stream holds, and the first and last sequence of them."""

    messages: int
    first: int
    last: int


async def stream_state(connection: Connection, stream: str) -> StreamState:
    """Look at a stream.

    Raises:
        NotFound: It does not exist.
        BridgeError: Not connected, or not answered.
    """
    state = (await call(connection, f"STREAM.INFO.{stream}", answer=_Info)).state
    return StreamState(state.messages, state.first_seq, state.last_seq)


async def get_message(
    connection: Connection, stream: str, sequence: int, *, next_of: str | None = None
) -> StoredMessage | None:
    """Read the message at a sequence, or the first from there on of subjects; None where there is none.

    Args:
        connection: The way to JetStream.
        stream: The stream.
        sequence: Where.
        next_of: A subject, or a pattern.

    Raises:
        NotFound: The stream does not exist.
        BridgeError: Not connected, or not answered.
    """
    body: dict[str, object] = {"seq": sequence}
    if next_of is not None:
        body["next_by_subj"] = next_of
    try:
        got = await call(connection, f"STREAM.MSG.GET.{stream}", body, answer=_GetAnswer)
    except NotFound as error:
        if error.err_code == _NO_MESSAGE:
            return None
        raise
    message = got.message
    return StoredMessage(
        message.subject, message.seq, unix_time(message.time), base64.b64decode(message.data)
    )


async def purge_subject(connection: Connection, stream: str, subject: str) -> int:
    """Remove all messages of a subject from a stream; return how many there were.

    Raises:
        NotFound: There is no such stream.
        BridgeError: It was refused, or is not known to be done.
    """
    answer = await call(
        connection, f"STREAM.PURGE.{stream}", {"filter": subject}, answer=_Purged, within=10.0
    )
    return answer.purged


async def delete_message(connection: Connection, stream: str, sequence: int) -> None:
    """Delete a message; nothing happens where it is gone.

    Raises:
        BridgeError: JetStream refused, is not connected, or did not answer.
    """
    try:
        await call(
            connection,
            f"STREAM.MSG.DELETE.{stream}",
            {"seq": sequence, "no_erase": True},
            answer=_Anything,
        )
    except ApiError as error:
        if error.err_code not in (*_NOT_DELETED, _NO_MESSAGE):
            raise
