"""What time it is at the server, which every program shares: machines' own clocks may be minutes apart."""

from __future__ import annotations

import time
from datetime import datetime
from typing import TYPE_CHECKING

import msgspec
import trio

from pyoco_server.jetstream.errors import Unanswered

if TYPE_CHECKING:
    from pyoco_server.jetstream.connection import Connection

# What took longer says too little.
_LONGEST_SECONDS = 1.0


class _ClockAnswer(msgspec.Struct):
    ts: datetime | None = None
    error: dict[str, object] | None = None


class ServerClock:
    """The server's clock, as it was told lately; before that, this machine's own.

    It goes on by trio's clock, which nobody sets.
    """

    def __init__(self) -> None:
        self._ahead: float | None = None
        self._telling = True

    @property
    def known(self) -> bool:
        """Whether the server has told, or is one that does not."""
        return self._ahead is not None or not self._telling

    def now(self) -> float:
        """Unix seconds."""
        return time.time() if self._ahead is None else trio.current_time() + self._ahead

    @property
    def skew(self) -> float:
        """By how many seconds this machine's own clock is ahead of the server's."""
        return time.time() - self.now()

    async def ask(self, connection: Connection, stream: str) -> None:
        """Ask for the time, which comes with the state of a stream; one that does not exist tells none.

        Raises:
            BridgeError: Not connected, or not answered.
        """
        asked = trio.current_time()
        reply = await connection.request(f"$JS.API.STREAM.INFO.{stream}", within=5.0)
        answered = trio.current_time()
        try:
            answer = msgspec.json.decode(reply.payload, type=_ClockAnswer)
        except msgspec.MsgspecError as error:
            raise Unanswered(
                f"STREAM.INFO.{stream}: an answer that cannot be read: {error}"
            ) from None
        if answer.error is None:
            self._telling = answer.ts is not None
        if answer.ts is not None and answered - asked < _LONGEST_SECONDS:
            self._ahead = answer.ts.timestamp() - (asked + answered) / 2
