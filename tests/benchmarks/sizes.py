"""How much of everything is measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Sizes:
    """How many of what; the defaults are those of the published figures."""

    singles: int = 500
    at_once: int = 3_000
    batch: int = 500
    batched: int = 3_000
    ends: int = 200
    drained: int = 3_000
    drained_pauses: int = 1_000
    runs: tuple[int, ...] = (1_000, 10_000, 100_000)
    looks: int = 100
    watchers: int = 1_000
    watched: int = 600
    idle_seconds: float = 20
    wheel_mb: int = 100
    starts: int = 5


WHOLE: Final = Sizes()
QUICK: Final = Sizes(
    singles=50,
    at_once=200,
    batch=100,
    batched=200,
    ends=20,
    drained=200,
    drained_pauses=40,
    runs=(1_000,),
    looks=10,
    watchers=50,
    watched=50,
    idle_seconds=1,
    wheel_mb=5,
    starts=2,
)
