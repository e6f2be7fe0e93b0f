"""A pull that stands: messages come as they are stored, without a request of ours for each.

A taker that is slow gets no more than one pull holds: the next is asked for when all that came was taken.
Under load messages are gathered for some milliseconds, so that many of them wake the process once.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Final

import msgspec
import trio

from pyoco_server.jetstream.connection import Connection
from pyoco_server.jetstream.consumer import (
    LATE_SECONDS,
    NANOSECONDS,
    NO_WAIT_SECONDS,
    Message,
    refusal,
)
from pyoco_server.jetstream.errors import Unanswered, Unavailable
from pyoco_server.jetstream.requests import RawMessage, new_inbox

# One pull may hold so much, whatever the number of messages; far above the largest one.
_PULL_BYTES = 16 * 1024 * 1024
EXPIRES_SECONDS: Final = 5.0

# Above this rate messages are gathered, once so many came that it is no burst: a run that begins and ends, or
# one client that submits one run after the other, is told at once.
_CALM_SECONDS_EACH = 1 / 800
_BURST_SECONDS = 40 * _CALM_SECONDS_EACH
_GATHER_SECONDS = 0.005


class StandingPull:
    """The messages of a pull consumer without acknowledgements, which has to exist; for one taker.

    Args:
        batch: How many messages one pull asks for, and so are held in memory.
    """

    def __init__(self, connection: Connection, stream: str, name: str, *, batch: int) -> None:
        self.name = name
        self._connection = connection
        self._stream = stream
        self._batch = batch
        self._inbox = new_inbox()
        self._pulls = itertools.count(1)
        self._arrived: list[Message] = []
        # The pull: where its status messages come, how many messages it brought and may still bring, until
        # when it is waited for, and the status that ended it.
        self._pull = ""
        self._brought = 0
        self._left = 0
        self._until = 0.0
        self._last_word: RawMessage | None = None
        # Whether the last pull ended without any word.
        self._silent = False
        self._lost = False
        # When something was last handed out, and how much too fast it came by then.
        self._handed = 0.0
        self._excess = 0.0
        self._busy = False
        self._told = trio.Event()
        self._scope = trio.CancelScope()
        self._feed = connection.open_feed(f"{self._inbox}.*", self._deliver, self._lose)

    def close(self) -> None:
        """End the subscription."""
        self._connection.close_feed(self._feed)

    async def take(self) -> Sequence[Message]:
        """Wait for messages; all that arrived together, or nothing where none came for `EXPIRES_SECONDS`.

        Cancelling it loses nothing.

        Raises:
            NotFound: The consumer does not exist any more.
            ApiError: JetStream refused.
            Unanswered: Two pulls in a row brought not even a word that they ended: the server that has the
                consumer hangs, while the one that we are connected to need not.
            Unavailable: The connection is gone.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        while True:
            if self._arrived and trio.current_time() >= self._due():
                return self._hand_out()
            if self._left == 0 and not self._arrived:
                word, self._last_word = self._last_word, None
                if word is not None and self._is_expiry(word):
                    return ()
                if self._busy:
                    await trio.sleep_until(self._handed + _GATHER_SECONDS)
                if self._lost or not self._connection.status.connected:
                    raise Unavailable("the connection broke")
                self._ask()
                continue
            if not await self._wait():
                self._left = 0
                if self._brought == 0:
                    if self._silent:
                        raise Unanswered(f"a consumer of stream {self._stream} does not answer")
                    self._silent = True
                    return ()

    def _due(self) -> float:
        """When what has arrived is to be handed out."""
        return self._handed + _GATHER_SECONDS if self._busy and self._left else 0.0

    def _hand_out(self) -> Sequence[Message]:
        messages, self._arrived = self._arrived, []
        now = trio.current_time()
        before = max(0.0, self._excess - (now - self._handed))
        self._excess = min(before + len(messages) * _CALM_SECONDS_EACH, 2 * _BURST_SECONDS)
        # What waited at the server already is to be read as fast as can be.
        self._busy = self._excess > _BURST_SECONDS and messages[-1].delivery.pending == 0
        self._handed = now
        return messages

    def _ask(self) -> None:
        """Ask for the next messages: for those that come, or, under load, for those that have come.

        The server sends these together, and so they are read together.
        """
        body: dict[str, object] = {"batch": self._batch, "max_bytes": _PULL_BYTES}
        if self._busy:
            body["no_wait"] = True
            limit = NO_WAIT_SECONDS
        else:
            body["expires"] = int(EXPIRES_SECONDS * NANOSECONDS)
            limit = EXPIRES_SECONDS + LATE_SECONDS
        self._pull = f"{self._inbox}.{next(self._pulls)}"
        self._brought, self._left = 0, self._batch
        self._until = trio.current_time() + limit
        subject = f"$JS.API.CONSUMER.MSG.NEXT.{self._stream}.{self.name}"
        self._connection.publish_soon(subject, msgspec.json.encode(body), reply=self._pull)

    def _is_expiry(self, word: RawMessage) -> bool:
        """Read the status that ended a pull; whether nothing came for as long as it stood.

        Raises:
            NotFound: The consumer does not exist any more.
            ApiError: JetStream refused, and nothing came.
        """
        match word.status:
            case 404:
                self._busy = self._busy and self._brought > 0
                return False
            case 408:
                return self._brought == 0
            case _:
                if error := refusal(word, self._stream, self.name, in_vain=self._brought == 0):
                    raise error
                return False

    async def _wait(self) -> bool:
        """Wait until there is something to do; whether that was before the pull ended without a word."""
        self._told = trio.Event()
        with trio.CancelScope(
            deadline=self._due() if self._arrived else self._until
        ) as self._scope:
            await self._told.wait()
            return True
        return bool(self._arrived)

    # What the connection tells ----------------------------------------------------------------------------

    def _deliver(self, reply: RawMessage) -> None:
        status = reply.status
        self._silent = False
        if status is None:
            self._arrived.append(Message(self._connection, reply))
            self._brought += 1
            self._left = max(self._left - 1, 0)
            if self._left and trio.current_time() < self._due():
                self._scope.deadline = self._due()
            else:
                self._told.set()
        elif reply.subject == self._pull and status != 100:
            self._left = 0
            self._last_word = reply
            self._told.set()

    def _lose(self) -> None:
        self._lost = True
        self._left = 0
        self._told.set()
