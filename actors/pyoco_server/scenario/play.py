"""What all who act in one performance share: the stage, the clock, the history and the transcript."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import trio

from pyoco_server.scenario.document import Scenario, Twin
from pyoco_server.scenario.history import History
from pyoco_server.scenario.observer import Observer
from pyoco_server.scenario.stage import Stage

_KEEP_TRYING_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class TranscriptLine:
    """A line of the transcript; ``at`` is seconds since the beginning."""

    at: float
    text: str
    failed: bool = False


@dataclass(frozen=True)
class Play:
    """One performance, which begins when this is made.

    Attributes:
        scenario: What is played.
        stage: The running cast.
        observer: Who writes down what the buckets say.
        history: What happened so far.
        speed: How many times faster waits pass.
        twin: What is broken; None when nothing is.
        long: Whether what takes minutes takes them.
        tell: Told each line of the transcript.
        began: `trio.current_time` at the beginning.
    """

    scenario: Scenario
    stage: Stage
    observer: Observer
    history: History
    speed: float
    twin: Twin | None
    long: bool
    tell: Callable[[TranscriptLine], None]
    began: float = field(default_factory=trio.current_time)

    @property
    def now(self) -> float:
        """Seconds since the beginning."""
        return trio.current_time() - self.began

    def persistence(self, failure: str) -> float:
        """How long something is tried again before it has failed so, in seconds.

        Less only where that failure is what the twin has to show: a slow machine is no fault.
        """
        if self.twin is not None and self.twin.noticed([failure]):
            return self.twin.within
        return _KEEP_TRYING_SECONDS

    def in_vain(self, unmet: list[str], waited: float) -> bool:
        """Whether what is not met after so many seconds is what the twin breaks."""
        return self.twin is not None and waited >= self.twin.within and self.twin.noticed(unmet)

    def say(self, text: str, *, failed: bool = False) -> None:
        """Write a line of the transcript."""
        self.tell(TranscriptLine(self.now, text, failed))

    async def until(self, at: float) -> None:
        """Wait for a moment of a recording, in its seconds since the beginning."""
        await trio.sleep_until(self.began + at / self.speed)

    async def ended(self, run_id: str) -> None:
        """Wait until a run has ended."""
        while (last := self.history.last(run_id)) is None or not last.status.terminal:
            await self.observer.changed()
