"""What is started again after an end, how soon, and how often. Pure; the caller has the clock."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from random import Random
from typing import assert_never

from .errors import InvalidSpec


class Strategy(Enum):
    """Which siblings share the fate of a child that ended (the terms of Erlang's supervisor)."""

    ONE_FOR_ONE = "one_for_one"
    """None: only that child is started again."""
    ONE_FOR_ALL = "one_for_all"
    """All of them."""
    REST_FOR_ONE = "rest_for_one"
    """Those that were started after it, because they may build on it."""


@dataclass(frozen=True)
class RestartPlan:
    """Ids to stop, and then ids to start; both in order of start. What started last is stopped first."""

    stop: tuple[str, ...]
    start: tuple[str, ...]


def plan(strategy: Strategy, order: Sequence[str], ended: str) -> RestartPlan:
    """Plan the recovery from the end of the child ``ended``.

    Args:
        strategy: The supervisor's strategy.
        order: All child ids in order of start.
        ended: The child that ended; it is in ``order`` and needs no stopping.
    """
    match strategy:
        case Strategy.ONE_FOR_ONE:
            affected: Sequence[str] = (ended,)
        case Strategy.ONE_FOR_ALL:
            affected = order
        case Strategy.REST_FOR_ONE:
            affected = order[order.index(ended) :]
        case _:
            assert_never(strategy)
    return RestartPlan(
        stop=tuple(name for name in affected if name != ended),
        start=tuple(affected),
    )


@dataclass(frozen=True)
class Intensity:
    """How many restarts a supervisor bears before it gives up.

    A window alone can be defeated by backoff (delays of 1, 2, 4 … 30 s never make five restarts in
    thirty seconds), so that restarts in a row without a healthy time between are limited too.

    Attributes:
        restarts: At most this many restarts within ``seconds``.
        seconds: The window.
        consecutive: At most this many restarts of one child in a row; infinite turns it off, for
            children whose cause of failure is expected to heal by waiting.
    """

    restarts: int = 10
    seconds: float = 30.0
    consecutive: float = 20

    def __post_init__(self) -> None:
        if self.restarts < 0:
            raise InvalidSpec(f"restarts {self.restarts}: takes 0 or more")
        if not self.seconds > 0:
            raise InvalidSpec(f"seconds {self.seconds}: takes more than 0")
        if not self.consecutive >= 0:
            raise InvalidSpec(f"consecutive {self.consecutive}: takes 0 or more")


class RestartWindow:
    """Remembers when restarts happened, in seconds of any monotonic clock."""

    def __init__(self, intensity: Intensity) -> None:
        self._intensity = intensity
        self._times: deque[float] = deque()

    def __len__(self) -> int:
        return len(self._times)

    def record(self, now: float) -> bool:
        """Note a restart at ``now``; return whether it is still within the intensity."""
        self._times.append(now)
        horizon = now - self._intensity.seconds
        while self._times and self._times[0] <= horizon:
            self._times.popleft()
        return len(self._times) <= self._intensity.restarts


@dataclass(frozen=True)
class Backoff:
    """Exponential, capped, jittered delay before a restart.

    Attributes:
        initial: Seconds before the first restart.
        factor: Growth for each further restart in a row.
        maximum: Seconds at most, jitter included.
        jitter: Share of the delay that is random (0.2: 80 % to 120 %), so that many children that
            lost the same thing do not come back at the same moment.
        healthy_after: A child that ran this many seconds starts over with ``initial``.
    """

    initial: float = 0.05
    factor: float = 2.0
    maximum: float = 10.0
    jitter: float = 0.2
    healthy_after: float = 10.0

    def __post_init__(self) -> None:
        if not 0 <= self.initial <= self.maximum < math.inf:
            raise InvalidSpec(f"initial {self.initial}: takes 0 to maximum ({self.maximum})")
        if not 1 <= self.factor < math.inf:
            raise InvalidSpec(f"factor {self.factor}: takes 1 or more, finite")
        if not 0 <= self.jitter < 1:
            raise InvalidSpec(f"jitter {self.jitter}: takes 0 to below 1")
        if not self.healthy_after >= 0:
            raise InvalidSpec(f"healthy_after {self.healthy_after}: takes seconds, 0 or more")

    def delay(self, failures: int, random: Random) -> float:
        """Seconds to wait after the ``failures``-th crash in a row (1 is the first)."""
        try:
            delay = min(self.initial * self.factor ** (failures - 1), self.maximum)
        except OverflowError:  # long past the maximum, unless there is nothing to multiply
            delay = self.maximum if self.initial else 0.0
        spread = delay * self.jitter
        return min(delay + random.uniform(-spread, spread), self.maximum)
