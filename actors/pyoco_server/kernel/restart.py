"""Restart intensity (a sliding window) and backoff between restarts. Pure; the caller has the clock."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from random import Random

from .errors import InvalidSpec


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
