"""What to stop and what to start again after one child ended, as a pure function of the strategy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import assert_never


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
    """Ids to stop, in that order (last started first), then ids to start, in order of start."""

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
        stop=tuple(name for name in reversed(affected) if name != ended),
        start=tuple(affected),
    )
