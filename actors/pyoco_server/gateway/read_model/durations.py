"""How long runs waited and ran: percentiles of a window and of each of its steps. Everything here blocks."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Iterable
from itertools import chain
from typing import Final

from pyoco_server.api.system import Percentiles
from pyoco_server.model.run import TERMINAL_STATUSES

SAMPLED_AT_MOST: Final = 20_000
"""How many runs are looked at about; of more, each second, third, … is."""

_PERCENTS: Final = (50, 95, 99)


def durations(
    db: sqlite3.Connection, tenant: str | None, first: int, last: int, step: int
) -> tuple[Percentiles, dict[int, dict[str, float]]]:
    """The percentiles from minute ``first`` to ``last`` (unix seconds / 60), in steps of so many minutes.

    Of the runs that are kept: of the whole time, and of each step by its minute, as fields of `Minute`: what
    those waited that started in it, and what those took that ended. ``first`` is a multiple of ``step``.
    """
    where = "updated_at >= ?"
    given: list[int | str] = [first * 60]
    if tenant is not None:
        where, given = f"tenant = ? AND {where}", [tenant, *given]
    (count,) = db.execute(f"SELECT count(*) FROM runs WHERE {where}", given).fetchone()  # noqa: S608
    every = max(1, -(-count // SAMPLED_AT_MOST))
    rows = db.execute(
        "SELECT status, coalesce(scheduled_for, submitted_at), start_time, end_time"  # noqa: S608
        f" FROM runs WHERE {where} AND id % ? = 0",
        [*given, every],
    )
    waits: defaultdict[int, list[float]] = defaultdict(list)
    runs: defaultdict[int, list[float]] = defaultdict(list)

    def note(into: defaultdict[int, list[float]], since: float | None, until: float | None) -> None:
        if since is None or until is None or not first * 60 <= until < (last + 1) * 60:
            return
        into[int(until // 60) // step * step].append(max(until - since, 0.0))

    for status, submitted_at, start_time, end_time in rows:
        note(waits, submitted_at, start_time)
        if status in TERMINAL_STATUSES:
            note(runs, start_time, end_time)
    steps: defaultdict[int, dict[str, float]] = defaultdict(dict)
    for what, by_step in (("wait", waits), ("run", runs)):
        for minute, values in by_step.items():
            steps[minute] |= {f"{what}_{name}": p for name, p in _percentiles(values).items()}
    whole = Percentiles(
        wait=_percentiles(chain.from_iterable(waits.values())),
        run=_percentiles(chain.from_iterable(runs.values())),
        every=every,
    )
    return whole, steps


def _percentiles(values: Iterable[float]) -> dict[str, float]:
    """The values that so many percent do not exceed (nearest rank); none of none."""
    ranked = sorted(values)
    return {f"p{p}": ranked[max(-(-len(ranked) * p // 100) - 1, 0)] for p in _PERCENTS if ranked}
