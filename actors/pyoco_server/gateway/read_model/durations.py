"""How long runs waited and ran: percentiles of a window and of each of its steps. Everything here blocks."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from pyoco_server.model.run import TERMINAL_STATUSES

SAMPLED_AT_MOST: Final = 20_000
"""How many runs are looked at about; of more, each second, third, … is."""

PERCENTILES: Final = (50, 95, 99)


@dataclass(frozen=True, slots=True)
class Durations:
    """Percentiles in seconds, by their number; None where there is no run.

    Attributes:
        every: 1 where all runs were looked at, else each how manieth.
        waits: Of the time in the queue of the runs that started in a step, by the step's minute.
        runs: Of the time that those took which ended in it.
        wait: Of the whole window.
        run: The same.
    """

    every: int
    waits: dict[int, dict[int, float]]
    runs: dict[int, dict[int, float]]
    wait: dict[int, float]
    run: dict[int, float]


def durations(
    db: sqlite3.Connection, tenant: str | None, first: int, last: int, step: int
) -> Durations:
    """The percentiles from minute ``first`` to ``last`` (unix seconds / 60), in steps of so many minutes.

    Of the runs that are kept. ``first`` is a multiple of ``step``.
    """
    where, values = "updated_at >= ?", [float(first * 60)]
    given: list[float | str] = [*values]
    if tenant is not None:
        where, given = "tenant = ? AND updated_at >= ?", [tenant, *values]
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
    return Durations(
        every,
        {minute: _percentiles(each) for minute, each in waits.items()},
        {minute: _percentiles(each) for minute, each in runs.items()},
        _percentiles([each for step_waits in waits.values() for each in step_waits]),
        _percentiles([each for step_runs in runs.values() for each in step_runs]),
    )


def _percentiles(values: Sequence[float]) -> dict[int, float]:
    """The values that so many percent do not exceed (nearest rank); none of none."""
    ranked = sorted(values)
    return {p: ranked[max(-(-len(ranked) * p // 100) - 1, 0)] for p in PERCENTILES if ranked}
