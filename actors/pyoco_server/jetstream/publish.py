"""Publishing into streams, with JetStream's acknowledgement."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from pyoco_server.jetstream.api import Refused, check
from pyoco_server.jetstream.connection import Connection
from pyoco_server.jetstream.errors import ApiError, Unanswered, Unavailable, WrongRevision
from pyoco_server.jetstream.requests import Headers, Reply

# JetStream's "wrong last sequence" (nats-server, server/errors.json).
_WRONG_LAST_SEQUENCE = (10071, 10164)


@dataclass(frozen=True, slots=True)
class PubAck:
    """JetStream stored the message.

    Attributes:
        stream: Where.
        seq: Under which sequence.
        duplicate: It had it already, under the same message id.
    """

    stream: str
    seq: int
    duplicate: bool = False


class _Answer(msgspec.Struct):
    stream: str = ""
    seq: int = 0
    duplicate: bool = False
    error: Refused | None = None


_ANSWER = msgspec.json.Decoder(_Answer)


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
    all_headers = dict(headers or {})
    if msg_id is not None:
        all_headers["Nats-Msg-Id"] = msg_id
    if expected_last_subject_sequence is not None:
        all_headers["Nats-Expected-Last-Subject-Sequence"] = str(expected_last_subject_sequence)
    reply = await connection.request(subject, payload, headers=all_headers, within=within)
    return read_ack(subject, reply, expected_last_subject_sequence)


def read_ack(subject: str, reply: Reply, expected: int | None = None) -> PubAck:
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
        answer = _ANSWER.decode(reply.payload)
    except msgspec.MsgspecError as error:
        raise Unanswered(f"publish to {subject}: not an acknowledgement: {error}") from None
    try:
        check(answer.error)
    except ApiError as error:
        if error.err_code in _WRONG_LAST_SEQUENCE:
            raise WrongRevision(subject, expected or 0) from None
        raise
    return PubAck(answer.stream, answer.seq, answer.duplicate)
