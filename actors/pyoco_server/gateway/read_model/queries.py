"""The reading side of the read model: pages, counts and what happened lately. Everything here blocks.

A page is read along one index for each tenant and status that it may hold, so it costs what it
shows; a condition that no index leads to (a second property, a time of submission) is looked up row by row
on the way. Every query has a time limit instead of a promise.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from typing import Any, Final

import msgspec

from pyoco_server.api.runs import RunCounts, SubmissionStep
from pyoco_server.api.system import Minute
from pyoco_server.gateway.read_model.filters import Place, RunFilter
from pyoco_server.gateway.read_model.rows import COLUMNS, RunRow, to_row
from pyoco_server.gateway.read_model.schema import get_meta
from pyoco_server.kernel import Refusal
from pyoco_server.model.run import RunState, RunStatus

COUNTED_AT_MOST: Final = 10_000
"""How far runs are counted where no kept count answers."""

SUBMISSIONS_AT_MOST: Final = 20_000
"""How many runs `submissions` looks at."""

_NAMES: Final = ", ".join(COLUMNS)
_LIVE: Final = tuple(status for status in RunStatus if not status.terminal)
_NEWEST: Final = "ORDER BY updated_at DESC, run_id DESC"
# A trigram has three characters; shorter texts cannot be looked up in the index.
_LEAST_INDEXED: Final = 3
# A text that more runs hold than these is found quickly on the way through the newest ones.
_RARE: Final = 2000
# More tenants than these, and a list over all of them is read along the index of all runs.
_FEW_TENANTS: Final = 32
_STEPS_BETWEEN_LOOKS: Final = 20_000


class SearchTooWide(Refusal):
    """The query took longer than its limit; it has to be narrowed."""


@contextmanager
def time_limit(db: sqlite3.Connection, seconds: float) -> Iterator[None]:
    """Give up what the block asks after so many seconds.

    Raises:
        SearchTooWide: It was given up.
    """
    deadline = time.monotonic() + seconds
    db.set_progress_handler(lambda: time.monotonic() > deadline, _STEPS_BETWEEN_LOOKS)
    try:
        yield
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_INTERRUPT:
            raise SearchTooWide(f"it took longer than {seconds:g} s") from None
        raise
    finally:
        db.set_progress_handler(None, 0)


def page(
    db: sqlite3.Connection,
    run_filter: RunFilter,
    after: Place | None,
    limit: int,
    now: float = 0.0,
) -> list[RunRow]:
    """The newest ``limit`` runs of a filter at this time, or those behind ``after``."""
    return list(map(to_row, _newest(db, run_filter, after, limit, _NAMES, now)))


def submissions(
    db: sqlite3.Connection,
    run_filter: RunFilter,
    first: float,
    last: float,
    steps: int,
    now: float = 0.0,
) -> tuple[list[SubmissionStep], bool]:
    """When the runs of a filter were submitted, in equal steps between two times (unix seconds).

    And whether these are all; else the newest `SUBMISSIONS_AT_MOST`.
    """
    limit, width = SUBMISSIONS_AT_MOST, (last - first) / steps
    found: list[dict[str, int]] = [{} for _ in range(steps)]
    rows = list(
        _newest(db, run_filter, None, limit + 1, "status, submitted_at, updated_at, run_id", now)
    )
    for status, submitted_at, *_ in rows[:limit]:
        if submitted_at is not None and first <= submitted_at < last:
            step = found[min(int((submitted_at - first) / width), steps - 1)]
            step[status] = step.get(status, 0) + 1
    parts = [
        SubmissionStep(start=first + number * width, counts=counts)
        for number, counts in enumerate(found)
    ]
    return parts, len(rows) <= limit


@dataclass(frozen=True, slots=True)
class Sighting:
    """How a key of the bucket was seen last.

    Attributes:
        key: The key.
        seq: Its revision.
        stored_at: When the bucket stored it; None for what is no run.
        expires_at: When it goes away by itself; None for never.
    """

    key: str
    seq: int
    stored_at: float | None
    expires_at: float | None


def sightings(db: sqlite3.Connection, before: int, limit: int) -> list[Sighting]:
    """The keys that were seen below a revision, the newest first."""
    rows = db.execute(
        "SELECT * FROM (SELECT run_id, seq, stored_at, expires_at FROM runs WHERE seq < :before"
        " ORDER BY seq DESC LIMIT :limit) UNION ALL"
        " SELECT * FROM (SELECT key, seq, NULL, NULL FROM other_keys WHERE seq < :before"
        " ORDER BY seq DESC LIMIT :limit) ORDER BY seq DESC LIMIT :limit",
        {"before": before, "limit": limit},
    )
    return [Sighting(*row) for row in rows]


def changed_since(
    db: sqlite3.Connection, run_filter: RunFilter, seq: int, limit: int
) -> list[RunRow] | None:
    """The runs that changed behind revision ``seq`` and could match the filter, oldest change first.

    None when more than ``limit`` runs changed, of the filter or not, or one may have been removed: what is
    gone is not kept.
    """
    removed = get_meta(db, "removed")
    if removed is not None and int(removed) >= seq:
        return None
    sql = f"SELECT {_NAMES} FROM runs WHERE seq > ? ORDER BY seq LIMIT ?"  # noqa: S608
    rows = list(map(to_row, db.execute(sql, (seq, limit + 1))))
    if len(rows) > limit:
        return None
    return [row for row in rows if run_filter.concerns(row)]


def counts(db: sqlite3.Connection, run_filter: RunFilter, now: float = 0.0) -> RunCounts:
    """How many runs a filter has at this time, by state."""
    states = run_filter.states
    if not run_filter.counted or any(state.value != state.status.value for state in states):
        return _counted_by_row(db, run_filter, now)
    clauses, values = ["1"], []
    for name, value in (
        ("tenant", run_filter.tenant),
        ("flow", run_filter.flow),
        ("tag", run_filter.tag),
    ):
        if value is not None:
            clauses.append(f"{name} = ?")
            values.append(value)
    if run_filter.statuses:
        clauses.append(f"status IN ({', '.join('?' * len(states))})")
        values += states
    where = " AND ".join(clauses)

    def by(column: str) -> dict[str, int]:
        sql = (
            f"SELECT {column}, sum(n) FROM counts WHERE {where}"  # noqa: S608
            " GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 100"
        )
        return dict(db.execute(sql, values).fetchall())

    found = by("status")
    for state in _apart(now):
        if state.status.value in found and (n := _count(db, state, now, where, values)):
            found[state.value] = n
            found[state.status.value] -= n
    found = {state: n for state, n in found.items() if n}
    total = sum(found.values())
    return RunCounts(counts=found, total=total, flows=by("flow"), tags=by("tag"))


def _apart(now: float) -> dict[RunState, tuple[str, list[float]]]:
    """What sets the states apart that are stored as another one."""
    return {
        RunState.SCHEDULED: ("due_at > ? AND attempt = 0 AND status = 'PENDING'", [now]),
        RunState.EXPIRED: ("expired = 1", []),
    }


def _count(
    db: sqlite3.Connection, state: RunState, now: float, where: str, values: Sequence[object]
) -> int:
    """How many runs are in a state that is stored as another one, ``where`` that is so."""
    condition, given = _apart(now)[state]
    sql = f"SELECT count(*) FROM runs WHERE {condition} AND {where}"  # noqa: S608
    (n,) = db.execute(sql, [*given, *values]).fetchone()
    return int(n)


@dataclass(frozen=True, slots=True)
class Totals:
    """How many runs there are, and what time did to them.

    Attributes:
        all: By status.
        today: Of those that changed last on this local day, by status.
        scheduled: Wait for their time.
        expired: Were not started in it.
        late: Have not ended and are late, with their start or their end.
    """

    all: dict[str, int]
    today: dict[str, int]
    scheduled: int
    expired: int
    late: dict[str, int]


def totals(db: sqlite3.Connection, tenant: str | None, day: int, now: float) -> Totals:
    """How many runs of a tenant, or of all, there are on a local day at this time."""
    of_tenant, values = "(? IS NULL OR tenant = ?)", (tenant, tenant)
    start, end = db.execute(
        "SELECT coalesce(sum(late & 1 AND start_time IS NULL), 0), coalesce(sum(late > 1), 0) FROM runs"  # noqa: S608
        f" WHERE late > 0 AND end_time IS NULL AND {of_tenant}",
        values,
    ).fetchone()
    every = f"SELECT status, sum(n) FROM counts WHERE {of_tenant} GROUP BY 1"  # noqa: S608
    of_day = f"SELECT status, sum(n) FROM days WHERE day = ? AND {of_tenant} GROUP BY 1"  # noqa: S608
    return Totals(
        all=dict(db.execute(every, values).fetchall()),
        today=dict(db.execute(of_day, (day, *values)).fetchall()),
        scheduled=_count(db, RunState.SCHEDULED, now, of_tenant, values),
        expired=_count(db, RunState.EXPIRED, now, of_tenant, values),
        late={"start": start, "end": end},
    )


def tags(db: sqlite3.Connection, tenant: str) -> frozenset[str]:
    """The tags of a tenant's runs."""
    found = db.execute("SELECT DISTINCT tag FROM counts WHERE tenant = ? AND n > 0", (tenant,))
    return frozenset(tag for (tag,) in found)


def minutes(
    db: sqlite3.Connection, tenant: str | None, first: int, last: int, step: int = 1
) -> list[Minute]:
    """What happened from minute ``first`` to ``last`` (unix seconds / 60), in steps of so many minutes.

    Both belong to a step of their own: ``first`` is a multiple of ``step``.
    """
    found: dict[int, dict[str, tuple[int, int]]] = {}
    sql = (
        "SELECT minute / ? * ?, what, sum(n), sum(total_ms) FROM minutes"
        " WHERE minute BETWEEN ? AND ? AND (? IS NULL OR tenant = ?) GROUP BY 1, 2"
    )
    for minute, what, n, total in db.execute(sql, (step, step, first, last, tenant, tenant)):
        found.setdefault(minute, {})[what] = (n, total)
    return [_minute(number, found.get(number, {})) for number in range(first, last + 1, step)]


def live(db: sqlite3.Connection) -> list[RunRow]:
    """The runs that have not ended."""
    return list(map(to_row, _of_statuses(db, _LIVE, "1", ())))


def live_workflows(db: sqlite3.Connection) -> list[str]:
    """The digests of the flow.yaml files that those brought."""
    rows = _of_statuses(db, _LIVE, "sha256 IS NOT NULL", (), "DISTINCT sha256")
    return [sha256 for (sha256,) in rows]


def ended_before(db: sqlite3.Connection, moment: float) -> list[RunRow]:
    """A thousand runs at most that ended before that (unix seconds) and do not go away by themselves."""
    ended = (status for status in RunStatus if status.terminal)
    kept = "expires_at IS NULL AND updated_at < ? LIMIT 1000"
    return list(map(to_row, _of_statuses(db, ended, kept, (moment,))))


def _of_statuses(
    db: sqlite3.Connection,
    statuses: Iterable[RunStatus],
    where: str,
    values: Sequence[object],
    names: str = _NAMES,
) -> sqlite3.Cursor:
    # Along the index by tenant and status, whatever the number of other runs.
    wanted = list(statuses)
    sql = (
        f"SELECT {names} FROM runs WHERE tenant IN (SELECT DISTINCT tenant FROM counts)"  # noqa: S608
        f" AND status IN ({', '.join('?' * len(wanted))}) AND {where}"
    )
    return db.execute(sql, (*wanted, *values))


def _newest(
    db: sqlite3.Connection,
    run_filter: RunFilter,
    after: Place | None,
    limit: int,
    names: str,
    now: float,
) -> Iterable[Sequence[Any]]:
    # ``names`` are columns, `updated_at` and `run_id` among them.
    parts, values = [], []
    for condition, inner in _branches(db, run_filter, now):
        clauses, given = [condition], list(inner)
        if after is not None:
            clauses.append("(updated_at, run_id) < (?, ?)")
            given += after
        parts.append(
            f"SELECT * FROM (SELECT {names} FROM runs"  # noqa: S608 - of constants and `?` only
            f" WHERE {' AND '.join(clauses)} {_NEWEST} LIMIT ?)"
        )
        values += [*given, limit]
    if not parts:
        return []
    sql = " UNION ALL ".join(parts)
    if len(parts) > 1:
        sql += f" {_NEWEST} LIMIT ?"
        values.append(limit)
    return db.execute(sql, values)


def _minute(number: int, happened: dict[str, tuple[int, int]]) -> Minute:
    names = ("SUBMITTED", "STARTED", "COMPLETED", "FAILED", "CANCELLED")
    (submitted, _), (started, waited), *ends = (happened.get(name, (0, 0)) for name in names)
    ended, ran = sum(n for n, _ in ends), sum(total for _, total in ends)
    return Minute(
        start=number * 60,
        submitted=submitted,
        started=started,
        completed=ends[0][0],
        failed=ends[1][0],
        cancelled=ends[2][0],
        ended=ended,
        wait_avg=waited / started / 1000 if started else None,
        run_avg=ran / ended / 1000 if ended else None,
    )


def _counted_by_row(db: sqlite3.Connection, run_filter: RunFilter, now: float) -> RunCounts:
    found: dict[str, int] = {}
    left = COUNTED_AT_MOST
    for state in _all_of(run_filter.states):
        one = msgspec.structs.replace(run_filter, statuses=(state,))
        for condition, values in _branches(db, one, now, exactly=True):
            sql = f"SELECT count(*) FROM (SELECT 1 FROM runs WHERE {condition} LIMIT ?)"  # noqa: S608
            (n,) = db.execute(sql, [*values, left]).fetchone()
            if n:
                found[state] = found.get(state, 0) + n
            left -= n
            if left <= 0:
                return RunCounts(counts=found, total=sum(found.values()), exact=False)
    return RunCounts(counts=found, total=sum(found.values()))


def _all_of(states: Sequence[RunState]) -> list[RunState]:
    """The states that runs of these may have; of all when empty."""
    wanted = states or [RunState(status.value) for status in RunStatus]
    return [
        state for state in RunState if state in wanted or RunState(state.status.value) in wanted
    ]


def _branches(
    db: sqlite3.Connection, run_filter: RunFilter, now: float, *, exactly: bool = False
) -> Iterator[tuple[str, list[str | float]]]:
    """The conditions whose union is the filter, each with an index of its own to go along.

    A status is ``exactly`` that where it is without the states that are stored as it.
    """
    rest, given = ["1"], []
    for sql, value in run_filter.conditions():
        rest.append(sql)
        given.append(value)
    if run_filter.late:
        rest.append("late > 0")
    found = _holding_text(db, run_filter.text)
    if found is not None:
        # "+": along the ids rather than along an index of all runs.
        rest.append("id IN (SELECT value FROM json_each(?))")
        given.append(msgspec.json.encode(found).decode())
    sql, needles = run_filter.text_conditions()
    rest.append(sql)
    given += needles
    plus = "" if found is None else "+"
    apart = _apart(now)
    for tenant, state in product(_tenants(db, run_filter), run_filter.states or (None,)):
        clauses: list[str] = []
        values: list[str | float] = []
        for name, wanted in (("tenant", tenant), ("status", state and state.status.value)):
            if wanted is not None:
                clauses.append(f"{plus}{name} = ?")
                values.append(wanted)
        for other, (sql, more) in apart.items():
            if other is state:
                clauses.append(sql)
                values += more
            elif exactly and state is not None and other.status.value == state.value:
                clauses.append(f"NOT coalesce({sql}, 0)")
                values += more
        yield " AND ".join([*clauses, *rest]), [*values, *given]


def _tenants(db: sqlite3.Connection, run_filter: RunFilter) -> list[str | None]:
    if run_filter.tenant is not None:
        return [run_filter.tenant]
    indexed = (run_filter.flow, run_filter.tag, run_filter.worker_id, run_filter.sha256)
    if not (run_filter.statuses or run_filter.late) and all(value is None for value in indexed):
        return [None]
    # Skips from tenant to tenant along the key, whatever the number of counts.
    rows = db.execute(
        "WITH RECURSIVE t(tenant) AS (SELECT min(tenant) FROM counts UNION ALL SELECT"
        " (SELECT min(tenant) FROM counts WHERE tenant > t.tenant) FROM t WHERE t.tenant IS NOT NULL)"
        " SELECT tenant FROM t WHERE tenant IS NOT NULL LIMIT ?",
        (_FEW_TENANTS + 1,),
    ).fetchall()
    return [None] if len(rows) > _FEW_TENANTS else [tenant for (tenant,) in rows]


def _holding_text(db: sqlite3.Connection, text: str | None) -> list[int] | None:
    """The ids of the runs that may hold a text; None where they are many, or cannot be looked up."""
    # `%` and `_` in it match more than themselves here, which the condition on the row mends.
    if text is None or len(max(text.replace("_", "%").split("%"), key=len)) < _LEAST_INDEXED:
        return None
    sql = " UNION ".join(
        f"SELECT * FROM (SELECT rowid FROM words WHERE {column} LIKE ? LIMIT {_RARE + 1})"  # noqa: S608
        for column in ("run_id", "flow", "error")
    )
    rows = db.execute(sql, [f"%{text}%"] * 3).fetchall()
    return None if len(rows) > _RARE else [rowid for (rowid,) in rows]
