"""Answers lists and counts of runs from the read model."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeVar

import trio

from pyoco_server.gateway.read_model import queries
from pyoco_server.gateway.read_model.cursor import Place, encode_cursor
from pyoco_server.gateway.read_model.filters import RunFilter
from pyoco_server.gateway.read_model.model import NotReadable, ReadModel
from pyoco_server.gateway.read_model.queries import QueryTooExpensive
from pyoco_server.gateway.read_model.rows import RunRow, local_day
from pyoco_server.gateway.read_model.schema import get_meta
from pyoco_server.kernel import Refusal

A = TypeVar("A")

NOT_BUILT: Final = "the read model is being built from the runs bucket"
_QUERY_SECONDS: Final = 5.0


class SearchTooWide(Refusal):
    """The query took longer than its limit; it has to be narrowed."""


@dataclass(frozen=True, slots=True)
class Page:
    """Runs, the newest change first.

    Attributes:
        rows: At most as many as were asked for.
        next_cursor: Where the next page begins; None when this is the last one.
    """

    rows: list[RunRow]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class Totals:
    """How many runs there are by status, and how many of them changed last today (the local day)."""

    all: dict[str, int]
    today: dict[str, int]


async def ask(model: ReadModel, query: Callable[[sqlite3.Connection], A]) -> A:
    """Ask the read model. Cancelled, a query that has begun is waited for: two seconds at most.

    Raises:
        NotReadable: It is not there, or its bucket was not read to the end yet, or too many ask.
        SearchTooWide: It would take too long.
    """

    def built(db: sqlite3.Connection) -> A:
        if get_meta(db, "built") is None:
            raise NotReadable(NOT_BUILT)
        return query(db)

    try:
        with trio.move_on_after(_QUERY_SECONDS):
            return await model.read(built)
    except QueryTooExpensive as error:
        raise SearchTooWide(str(error)) from None
    raise NotReadable("too many ask the read model at once")


def page(db: sqlite3.Connection, run_filter: RunFilter, after: Place | None, limit: int) -> Page:
    """A page of at most ``limit`` runs, which begins at a cursor's place."""
    rows = queries.page(db, run_filter, after, limit + 1)
    if len(rows) <= limit:
        return Page(rows, None)
    last = rows[limit - 1]
    return Page(rows[:limit], encode_cursor((last.updated_at, last.run_id), run_filter))


def totals(db: sqlite3.Connection, tenant: str | None) -> Totals:
    """How many runs there are, of one tenant or of all (None)."""
    today = local_day(time.time())
    return Totals(queries.by_status(db, tenant), queries.of_day(db, tenant, today))


def last_minutes(db: sqlite3.Connection, tenant: str | None, count: int) -> list[queries.Minute]:
    """What happened in each of the last ``count`` minutes, the present one included, oldest first."""
    last = int(time.time() // 60)
    return queries.minutes(db, tenant, last - count + 1, last)
