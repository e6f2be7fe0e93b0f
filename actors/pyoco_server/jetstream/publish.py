"""Publishing into streams, with JetStream's acknowledgement: a message, or a batch that is stored as one.

Also messages that the server holds back until it is time (`delayed`).
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec

from pyoco_server.jetstream.api import MaybeRefused, check
from pyoco_server.jetstream.connection import Connection
from pyoco_server.jetstream.errors import (
    NO_BATCHES,
    WRONG_LAST_SEQUENCE,
    ApiError,
    BatchRefused,
    Unanswered,
    Unavailable,
    WrongRevision,
)
from pyoco_server.jetstream.requests import Ahead, Headers, RawMessage

# Atomic batches: ADR-50 of nats-architecture-and-design.
_BATCHES_SINCE = (2, 12)
_OF_ONE_PUBLISHING = ("Nats-Batch-", "Nats-Expected-")


@dataclass(frozen=True, slots=True)
class Publication:
    """A message for a stream; see `publish_acked` for the fields."""

    subject: str
    payload: bytes
    msg_id: str | None = None
    expected_last_subject_sequence: int | None = None
    headers: Headers | None = None

    def all_headers(self) -> dict[str, str]:
        """Its headers, with those that say the other fields."""
        headers = dict(self.headers or {})
        if self.msg_id is not None:
            headers["Nats-Msg-Id"] = self.msg_id
        if self.expected_last_subject_sequence is not None:
            headers["Nats-Expected-Last-Subject-Sequence"] = str(
                self.expected_last_subject_sequence
            )
        return headers


def to_publish_again(headers: Headers) -> dict[str, str]:
    """The headers of a message that somebody published, without what held for that one time.

    That is its place in a batch, and what was to be stored before it.
    """
    return {k: v for k, v in headers.items() if not k.startswith(_OF_ONE_PUBLISHING)}


class PubAck(MaybeRefused, frozen=True):
    """JetStream stored the message.

    Attributes:
        seq: Under which sequence.
        duplicate: It had it already, under the same message id.
        batch: Of which batch it was the last message; "" for none.
        count: How many messages that batch had.
    """

    seq: int = 0
    duplicate: bool = False
    batch: str = ""
    count: int = 0


_ACK = msgspec.json.Decoder(PubAck)


async def publish_acked(
    connection: Connection,
    subject: str,
    payload: bytes,
    *,
    headers: Headers | None = None,
    msg_id: str | None = None,
    expected_last_subject_sequence: int | None = None,
    within: float = 5.0,
) -> PubAck:
    """Store a message in the stream of its subject.

    Many may be in flight at once; they share one connection and need no task each.

    Args:
        connection: The way to NATS.
        subject: A subject that a stream collects.
        payload: The bytes.
        headers: Further headers.
        msg_id: Makes a repetition within the stream's duplicate window harmless.
        expected_last_subject_sequence: Store only if this is the last sequence of the subject; 0 for
            "nothing yet".
        within: Seconds to wait for the acknowledgement.

    Raises:
        WrongRevision: The subject's last sequence is another one.
        ApiError: JetStream refused.
        BridgeError: Not connected, not answered, too large.
    """
    message = Publication(subject, payload, msg_id, expected_last_subject_sequence, headers)
    return await publish(connection, message, within=within)


async def publish(connection: Connection, message: Publication, *, within: float = 5.0) -> PubAck:
    """Store a message that is written already; raises as `publish_acked`."""
    reply = await connection.request(
        message.subject, message.payload, headers=message.all_headers(), within=within
    )
    return read_ack(message.subject, reply, message.expected_last_subject_sequence)


async def publish_batch(
    connection: Connection, messages: Sequence[Publication], *, within: float = 5.0
) -> range:
    """Store messages of one stream together, in their order: all of them, or none.

    All are sent at once, so that no batch stays open at the server, unless the connection breaks; then it
    is forgotten there after 10 seconds.

    Args:
        connection: The way to NATS.
        messages: 1 to 1,000 of them.
        within: Seconds to wait for the acknowledgement.

    Returns:
        Their sequences.

    Raises:
        BatchRefused: None of them is stored: the server is older than 2.12, the stream takes no batches,
            too many are open, a message id was there before, or an expected sequence is another one.
        Unanswered: They may be stored, or will be, all or none; before a server older than 2.12 that
            leads the stream in a cluster, each by itself.
        BridgeError: Not connected, or too large; nothing was sent.
    """
    if not takes_batches(connection.status.server_version):
        raise BatchRefused("the server is older than 2.12", lasting=True)
    batch = uuid.uuid4().hex
    outgoing: list[Ahead] = []
    for number, message in enumerate(messages, 1):
        headers = message.all_headers()
        headers |= {"Nats-Batch-Id": batch, "Nats-Batch-Sequence": str(number)}
        if number == len(messages):
            headers["Nats-Batch-Commit"] = "1"
        outgoing.append((message.subject, message.payload, headers))
    *ahead, (subject, payload, last_headers) = outgoing
    reply = await connection.request(
        subject, payload, headers=last_headers, ahead=ahead, within=within
    )
    try:
        ack = read_ack(subject, reply)
    except WrongRevision as error:
        raise BatchRefused(str(error)) from None
    except ApiError as error:
        raise BatchRefused(str(error), lasting=error.err_code == NO_BATCHES) from None
    if (ack.batch, ack.count) != (batch, len(messages)):
        raise Unanswered(f"batch to {subject}: stored, but not as a batch")
    return range(ack.seq - ack.count + 1, ack.seq + 1)


def delayed(
    subject: str, target: str, payload: bytes, at: float, *, msg_id: str | None = None
) -> Publication:
    """Return the message that has another one published when it is time, by the server's clock.

    It is stored under a subject of its own until it is due, and then moved to its target by the server
    (ADR-51 of nats-architecture-and-design, nats-server 2.12), or when the server is back. Whether a stream
    can do that is `StreamInfo.holds_back`.

    Args:
        subject: Where it is held back, in the place of an earlier one there.
        target: Where it goes then; a subject of the same stream.
        payload: Its bytes.
        at: When, in unix seconds; at once for a moment that is over.
        msg_id: Makes a repetition harmless.
    """
    moment = datetime.fromtimestamp(at, UTC).isoformat()
    headers = {"Nats-Schedule": f"@at {moment}", "Nats-Schedule-Target": target}
    return Publication(subject, payload, msg_id, headers=headers)


def takes_batches(server_version: str | None) -> bool:
    """Whether a server of this version, such as ``2.12.0``, knows of batches."""
    numbers = (server_version or "0.0").split(".")[:2]
    return tuple(map(int, numbers)) >= _BATCHES_SINCE


def read_ack(subject: str, reply: RawMessage, expected: int | None = None) -> PubAck:
    """Read what JetStream answers to a message that was published to ``subject``.

    Raises:
        WrongRevision: The subject's last sequence is not the ``expected`` one.
        ApiError: JetStream refused.
        Unavailable: No stream collects the subject.
        Unanswered: It is no acknowledgement.
    """
    if reply.status == 503:
        raise Unavailable(f"nobody answers at {subject}")
    try:
        ack = _ACK.decode(reply.payload)
    except msgspec.MsgspecError as error:
        raise Unanswered(f"publish to {subject}: not an acknowledgement: {error}") from None
    try:
        check(ack.error)
    except ApiError as error:
        if error.err_code in WRONG_LAST_SEQUENCE:
            raise WrongRevision(subject, expected or 0) from None
        raise
    return ack
