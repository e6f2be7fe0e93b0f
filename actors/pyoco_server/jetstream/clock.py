"""What time it is at the server, which every program shares: machines' own clocks may be minutes apart."""

from __future__ import annotations

import time
from datetime import datetime

import trio

# What took longer says too little.
_LONGEST_SECONDS = 1.0


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

    def told(self, at: datetime | None, asked: float) -> None:
        """The server told its time, with an answer to what it was ``asked`` at a moment of trio's time.

        Args:
            at: What it told; None where it tells none, as those before 2.10 do.
            asked: When.
        """
        answered = trio.current_time()
        self._telling = at is not None
        if at is not None and answered - asked < _LONGEST_SECONDS:
            self._ahead = at.timestamp() - (asked + answered) / 2
