"""Pulling messages from a consumer: what is asked for and no more, each acknowledged by itself."""

from __future__ import annotations

import functools
import itertools
from typing import Final

import msgspec
import trio

from pyoco_server.jetstream.api import Anything, call
from pyoco_server.jetstream.connection import Connection
from pyoco_server.jetstream.errors import CONSUMER_EXISTS, ApiError, NotFound, Unavailable
from pyoco_server.jetstream.outbox import Feed
from pyoco_server.jetstream.requests import Headers, RawMessage, Waiter, new_inbox

# Beyond the server's own limit for a pull, for its last word to arrive.
LATE_SECONDS: Final = 1.0
NO_WAIT_SECONDS: Final = 2.0
NANOSECONDS: Final = 1_000_000_000


async def create_consumer(
    connection: Connection,
    stream: str,
    name: str,
    *,
    subject: str = "",
    ack_wait_sec: float,
    max_deliver: int = -1,
    max_ack_pending: int,
    within: float = 5.0,
) -> None:
    """Create a durable pull consumer that several take from; nothing happens where it exists.

    Args:
        connection: The way to NATS.
        stream: Of which stream.
        name: Its name.
        subject: Which messages of the stream; all when empty.
        ack_wait_sec: After how many seconds what is not acknowledged is delivered again.
        max_deliver: How often at most; -1 for no limit.
        max_ack_pending: How many deliveries may wait for their acknowledgement.
        within: Seconds to wait.

    Raises:
        ApiError: JetStream refused.
        BridgeError: Not connected, or not answered.
    """
    config = {
        "durable_name": name,
        "name": name,
        "ack_policy": "explicit",
        "deliver_policy": "all",
        "replay_policy": "instant",
        "ack_wait": int(ack_wait_sec * NANOSECONDS),
        "max_deliver": max_deliver,
        "max_ack_pending": max_ack_pending,
    }
    what = f"CONSUMER.CREATE.{stream}.{name}"
    if subject:
        config["filter_subject"], what = subject, f"{what}.{subject}"
    body = {"stream_name": stream, "config": config, "action": "create"}
    try:
        await call(connection, what, body, answer=Anything, within=within)
    except ApiError as error:
        if error.err_code not in CONSUMER_EXISTS:
            raise


class Delivery(msgspec.Struct, frozen=True):
    """What the ack subject of a delivered message says (ADR-15 of nats-architecture-and-design)."""

    num_delivered: int
    stream_sequence: int
    consumer_sequence: int
    timestamp: float
    pending: int

    @classmethod
    def parse(cls, ack_subject: str) -> Delivery:
        """Read the subject that a delivery is acknowledged on.

        ``$JS.ACK.[<domain>.<account>.]<stream>.<consumer>.<delivered>.<sseq>.<cseq>.<ns>.<pending>``
        """
        tokens = ack_subject.split(".")
        if len(tokens) > 9:
            tokens = tokens[2:]
        delivered, stream_seq, consumer_seq, nanoseconds, pending = map(int, tokens[4:9])
        return cls(delivered, stream_seq, consumer_seq, nanoseconds / NANOSECONDS, pending)


class Message:
    """A delivered message. It is delivered again unless acknowledged within the ack wait.

    To say anything of it raises `Unavailable` where NATS is not connected.
    """

    __slots__ = ("_connection", "_reply", "delivery")

    def __init__(self, connection: Connection, reply: RawMessage) -> None:
        self._connection = connection
        self._reply = reply
        self.delivery = Delivery.parse(reply.reply)

    @property
    def subject(self) -> str:
        """The subject it was published to."""
        return self._reply.subject

    @property
    def data(self) -> bytes:
        """Its bytes."""
        return self._reply.payload

    @property
    def headers(self) -> Headers:
        """Its headers."""
        return self._reply.headers

    @property
    def num_delivered(self) -> int:
        """How often it was delivered, this time included."""
        return self.delivery.num_delivered

    @property
    def stream_sequence(self) -> int:
        """Its sequence in the stream."""
        return self.delivery.stream_sequence

    async def ack(self, *, within: float = 5.0) -> None:
        """Take it off the queue and wait for the server's confirmation.

        Raises:
            BridgeError: It is not confirmed; the message may come again.
        """
        await self._connection.request(self._reply.reply, b"+ACK", within=within)

    def ack_soon(self) -> None:
        """Take it off the queue without waiting for anything; where NATS is not reached, it comes again."""
        self._connection.publish_soon(self._reply.reply, b"+ACK")

    async def nak(self, delay_seconds: float) -> None:
        """Have it delivered again, after a delay."""
        body = {"delay": int(delay_seconds * NANOSECONDS)}
        suffix = b" " + msgspec.json.encode(body) if delay_seconds > 0 else b""
        await self._connection.publish(self._reply.reply, b"-NAK" + suffix)

    def give_back(self) -> None:
        """Have it delivered again at once, without waiting for anything; for a cancelled caller."""
        self._connection.publish_soon(self._reply.reply, b"-NAK")

    async def in_progress(self) -> None:
        """Start its ack wait anew."""
        await self._connection.publish(self._reply.reply, b"+WPI")

    async def term(self, reason: str) -> None:
        """Take it off the queue as something that nobody can handle."""
        await self._connection.publish(self._reply.reply, f"+TERM {reason}".encode())


@functools.cache
def _pull_request(batch: int, expires: float) -> bytes:
    """What asks for messages; the same few requests are made again and again."""
    how = {"expires": int(expires * NANOSECONDS)} if expires > 0 else {"no_wait": True}
    return msgspec.json.encode({"batch": batch, **how})


class PullConsumer:
    """A durable or ephemeral pull consumer of a stream; it has to exist. One fetch at a time.

    JetStream delivers under the subject that a message is stored under, so that only the subscription
    tells what it was delivered for: each consumer has one of its own. It ends with `close`, and with a pull
    that is given up: the server would hold it for as long as it may wait, and what it brings then, to
    nobody, counts as delivered.
    """

    def __init__(self, connection: Connection, stream: str, name: str) -> None:
        self._connection = connection
        self._subject = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{name}"
        self._inbox = ""
        self._pulls = itertools.count(1)
        self._feed: Feed | None = None
        self._waiter: Waiter | None = None
        self._pull = ""  # reply subject of the open fetch; its status messages come there
        self.stream = stream
        self.name = name

    def close(self) -> None:
        """End the subscription, and with it the pulls that are open. What is under way is given back."""
        if self._feed is not None:
            self._connection.close_feed(self._feed)
            self._feed = None

    def _open(self) -> Feed:
        """Subscribe under a name that no pull of before answers to."""
        inbox = self._inbox = new_inbox()

        def deliver(reply: RawMessage) -> None:
            awaited = self._waiter if inbox == self._inbox else None
            if reply.status is None and awaited is None:
                Message(self._connection, reply).give_back()
            elif awaited is not None and (reply.status is None or reply.subject == self._pull):
                awaited.tell(reply)

        return self._connection.open_feed(f"{inbox}.*", deliver, self._lose)

    def _lose(self) -> None:
        if self._waiter is not None:
            self._waiter.lose()

    async def fetch(self, batch: int, *, expires: float) -> list[Message]:
        """Pull messages.

        With ``expires`` 0 it takes what waits now, at most ``batch``. Otherwise it waits for *one*
        message for that many seconds and returns it alone: a waiting pull for more would stay open at
        the server and receive what this caller no longer has room for.

        A pull whose end was not seen ends with its subscription, and a message that is under way to it is
        given back at once. When the connection breaks, what has come so far is returned.

        Args:
            batch: How many at most.
            expires: How many seconds to wait for one; 0 not to wait.

        Raises:
            NotFound: The consumer does not exist (any more).
            ApiError: JetStream refused: too many pulls wait already, or its leader is about to change.
            Unavailable: NATS is not connected.
        """
        status = self._connection.status
        if not status.connected:
            await trio.lowlevel.checkpoint()
            raise Unavailable(status.absence)
        if expires > 0:
            batch, limit = 1, expires + LATE_SECONDS
        else:
            limit = NO_WAIT_SECONDS
        if self._feed is None:
            self._feed = self._open()
        waiter = self._waiter = Waiter()
        self._pull = f"{self._inbox}.{next(self._pulls)}"
        messages: list[Message] = []
        ended = False
        try:
            with trio.move_on_after(limit):
                await trio.lowlevel.checkpoint_if_cancelled()
                body = _pull_request(batch, expires)
                self._connection.publish_soon(self._subject, body, reply=self._pull)
                while not ended and (reply := await waiter.next()) is not None:
                    ended = not self._take(reply, messages) or len(messages) == batch
        except BaseException:  # cancelled, as a rule: the caller never sees what came
            for message in messages:
                message.give_back()
            raise
        finally:
            self._waiter = None
            if not ended:
                self.close()
            for reply in waiter.replies:  # came with the deadline, or more than was asked for
                if reply.status is None:
                    Message(self._connection, reply).give_back()
        return messages

    def _take(self, reply: RawMessage, messages: list[Message]) -> bool:
        """Take a reply of a pull; False when it was the pull's last word."""
        if reply.status is None:
            messages.append(Message(self._connection, reply))
            return True
        if error := refusal(reply, self.stream, self.name, in_vain=not messages):
            raise error
        return reply.status == 100  # idle heartbeat


def refusal(reply: RawMessage, stream: str, name: str, *, in_vain: bool) -> ApiError | None:
    """What a status message of a pull says went wrong; None where it only ends the pull, or says it stands.

    Only ``in_vain``, where nothing came before it, each refusal is one: whoever was told that there is
    nothing would come again at once.
    """
    match reply.status:
        case 503:
            return NotFound(404, 0, f"consumer {name} of {stream} does not answer")
        case 409 if "deleted" in reply.description.lower():
            return NotFound(404, 0, f"consumer {name} of {stream} was deleted")
        case 100 | 404 | 408:
            return None
        case code:
            text = f"{reply.description} (consumer {name})"
            return ApiError(code or 0, 0, text) if in_vain else None
