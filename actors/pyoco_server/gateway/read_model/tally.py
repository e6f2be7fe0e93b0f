"""The counts that are kept beside the rows: how many runs there are, and what happened in each minute."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from functools import cache
from typing import TypeAlias

from pyoco_server.gateway.read_model.rows import RunRow

Sums: TypeAlias = defaultdict[tuple[str | int, ...], list[int]]
"""What is added to the sums of a table, by key."""


class Tally:
    """What a batch of changes does to the counts; each row is taken out as it was and put in as it is."""

    def __init__(self) -> None:
        self._counts: Sums = defaultdict(lambda: [0])
        self._days: Sums = defaultdict(lambda: [0])
        self._minutes: Sums = defaultdict(lambda: [0, 0])

    def add(self, row: RunRow, sign: int) -> None:
        """Count a row (1), or no longer (-1)."""
        self._counts[row.tenant, row.flow, row.tag, row.status][0] += sign
        self._days[row.day, row.tenant, row.status][0] += sign
        for moment, what, milliseconds in happenings(row):
            minute = self._minutes[int(moment // 60), row.tenant, what]
            minute[0] += sign
            minute[1] += sign * milliseconds

    def store(self, db: sqlite3.Connection) -> None:
        """Bring the tables up to date; what has come to nothing leaves them."""
        _store(db, "counts", ("tenant", "flow", "tag", "status"), ("n",), self._counts)
        _store(db, "days", ("day", "tenant", "status"), ("n",), self._days)
        _store(db, "minutes", ("minute", "tenant", "what"), ("n", "total_ms"), self._minutes)


def _store(
    db: sqlite3.Connection, table: str, keys: tuple[str, ...], sums: tuple[str, ...], changes: Sums
) -> None:
    add, drop = _statements(table, keys, sums)
    db.executemany(add, [(*key, *change) for key, change in changes.items() if any(change)])
    db.executemany(drop, [key for key, change in changes.items() if change[0] < 0])


@cache
def _statements(table: str, keys: tuple[str, ...], sums: tuple[str, ...]) -> tuple[str, str]:
    """What adds to the sums of a table, and what drops those that have come to nothing."""
    places = ", ".join("?" * (len(keys) + len(sums)))
    added = ", ".join(f"{name} = {name} + excluded.{name}" for name in sums)
    is_it = " AND ".join(f"{name} = ?" for name in keys)
    # Of constants and `?` only.
    return (
        f"INSERT INTO {table} VALUES ({places}) ON CONFLICT DO UPDATE SET {added}",  # noqa: S608
        f"DELETE FROM {table} WHERE {is_it} AND n = 0",  # noqa: S608
    )


def happenings(row: RunRow) -> list[tuple[float, str, int]]:
    """What happened to a run: when (unix seconds), what, and how many milliseconds it had taken.

    Submitted; started after its waiting time; ended, by its status, after its running time.
    """
    found: list[tuple[float, str, int]] = []
    if row.submitted_at is not None:
        found.append((row.submitted_at, "SUBMITTED", 0))
    if row.start_time is not None:
        # A run that was to start later has waited from then on.
        since = row.scheduled_for or row.submitted_at
        waited = 0.0 if since is None else row.start_time - since
        found.append((row.start_time, "STARTED", _milliseconds(waited)))
    if row.end_time is not None and row.status.terminal:
        ran = 0.0 if row.start_time is None else row.end_time - row.start_time
        found.append((row.end_time, row.status.value, _milliseconds(ran)))
    return [happening for happening in found if abs(happening[0]) < 1e12]


def _milliseconds(seconds: float) -> int:
    # Clocks of machines differ a little, and what others wrote may be anything.
    return round(min(max(seconds, 0.0), 1e9) * 1000)
