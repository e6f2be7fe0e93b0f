"""Messages as a stream holds them: read and deleted by their sequence, beside any consumer."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from datetime import datetime

import msgspec

from pyoco_server.jetstream.api import Anything, call
from pyoco_server.jetstream.connection import Connection
from pyoco_server.jetstream.errors import NO_MESSAGE, ApiError, NotFound

_NOT_DELETED = (NO_MESSAGE, 10057, 10043)


class _Stored(msgspec.Struct):
    subject: str
    seq: int
    time: str
    data: str = ""
    hdrs: str = ""


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


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """A message of a stream.

    Attributes:
        subject: What it was published to.
        sequence: Its sequence.
        stored_at: When it was stored, in unix seconds of the server's clock.
        data: Its bytes.
        headers: The bytes that hold its headers.
    """

    subject: str
    sequence: int
    stored_at: float
    data: bytes
    headers: bytes = b""


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
    return await _get(connection, stream, body, within=5.0)


async def last_message(
    connection: Connection, stream: str, subject: str, *, within: float = 5.0
) -> StoredMessage | None:
    """Read the last message of a subject or pattern, from the stream's leader; None where there is none.

    Raises:
        NotFound: The stream does not exist.
        BridgeError: Not connected, or not answered.
    """
    return await _get(connection, stream, {"last_by_subj": subject}, within=within)


async def _get(
    connection: Connection, stream: str, body: dict[str, object], *, within: float
) -> StoredMessage | None:
    try:
        got = await call(
            connection, f"STREAM.MSG.GET.{stream}", body, answer=_GetAnswer, within=within
        )
    except NotFound as error:
        if error.err_code == NO_MESSAGE:
            return None
        raise
    message = got.message
    return StoredMessage(
        message.subject,
        message.seq,
        unix_time(message.time),
        base64.b64decode(message.data),
        base64.b64decode(message.hdrs),
    )


async def purge_subject(
    connection: Connection, stream: str, subject: str, *, within: float = 10.0
) -> int:
    """Remove all messages of a subject from a stream; return how many there were.

    Raises:
        NotFound: There is no such stream.
        BridgeError: It was refused, or is not known to be done.
    """
    answer = await call(
        connection, f"STREAM.PURGE.{stream}", {"filter": subject}, answer=_Purged, within=within
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
            answer=Anything,
        )
    except ApiError as error:
        if error.err_code not in _NOT_DELETED:
            raise


def unix_time(text: str) -> float:
    """Unix seconds of a time as JetStream writes it."""
    # Nanoseconds, which datetime does not take: cut to microseconds.
    head, _, fraction = text.rstrip("Z").partition(".")
    return datetime.fromisoformat(f"{head}.{(fraction + '000000')[:6]}+00:00").timestamp()
