"""The counts that are kept beside the rows: how many runs there are, and what happened in each minute."""

from __future__ import annotations

import sqlite3
from collections import defaultdict

from pyoco_server.gateway.read_model.rows import RunRow

SUBMITTED = "SUBMITTED"
STARTED = "STARTED"


class Tally:
    """What a batch of changes does to the counts; each row is taken out as it was and put in as it is."""

    def __init__(self) -> None:
        self._counts: defaultdict[tuple[str, str, str, str], int] = defaultdict(int)
        self._days: defaultdict[tuple[int, str, str], int] = defaultdict(int)
        self._minutes: defaultdict[tuple[int, str, str], list[int]] = defaultdict(lambda: [0, 0])

    def put_in(self, row: RunRow) -> None:
        """Count a row."""
        self._add(row, 1)

    def take_out(self, row: RunRow) -> None:
        """Count a row no longer."""
        self._add(row, -1)

    def _add(self, row: RunRow, sign: int) -> None:
        self._counts[row.tenant, row.flow, row.tag, row.status] += sign
        self._days[row.day, row.tenant, row.status] += sign
        for moment, what, milliseconds in happenings(row):
            minute = self._minutes[int(moment // 60), row.tenant, what]
            minute[0] += sign
            minute[1] += sign * milliseconds

    def store(self, db: sqlite3.Connection) -> None:
        """Bring the tables up to date; what has come to nothing leaves them."""
        db.executemany(
            "INSERT INTO counts VALUES (?, ?, ?, ?, ?)"
            " ON CONFLICT DO UPDATE SET n = n + excluded.n",
            [(*key, n) for key, n in self._counts.items() if n],
        )
        db.executemany(
            "DELETE FROM counts WHERE tenant = ? AND flow = ? AND tag = ? AND status = ? AND n = 0",
            [key for key, n in self._counts.items() if n < 0],
        )
        db.executemany(
            "INSERT INTO days VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET n = n + excluded.n",
            [(*key, n) for key, n in self._days.items() if n],
        )
        db.executemany(
            "DELETE FROM days WHERE day = ? AND tenant = ? AND status = ? AND n = 0",
            [key for key, n in self._days.items() if n < 0],
        )
        db.executemany(
            "INSERT INTO minutes VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE"
            " SET n = n + excluded.n, total_ms = total_ms + excluded.total_ms",
            [(*key, *change) for key, change in self._minutes.items() if any(change)],
        )
        db.executemany(
            "DELETE FROM minutes WHERE minute = ? AND tenant = ? AND what = ? AND n = 0",
            [key for key, change in self._minutes.items() if change[0] < 0],
        )


def happenings(row: RunRow) -> list[tuple[float, str, int]]:
    """What happened to a run: when (unix seconds), what, and how many milliseconds it had taken.

    Submitted; started after its waiting time; ended, by its status, after its running time.
    """
    found: list[tuple[float, str, int]] = []
    if row.submitted_at is not None:
        found.append((row.submitted_at, SUBMITTED, 0))
    if row.start_time is not None:
        waited = 0.0 if row.submitted_at is None else row.start_time - row.submitted_at
        found.append((row.start_time, STARTED, _milliseconds(waited)))
    if row.end_time is not None and row.status.terminal:
        ran = 0.0 if row.start_time is None else row.end_time - row.start_time
        found.append((row.end_time, row.status.value, _milliseconds(ran)))
    return [happening for happening in found if abs(happening[0]) < 1e12]


def _milliseconds(seconds: float) -> int:
    # Clocks of machines differ a little, and what others wrote may be anything.
    return round(min(max(seconds, 0.0), 1e9) * 1000)
