"""Answers lists and counts of runs from the read model."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pyoco_server.gateway.read_model import queries
from pyoco_server.gateway.read_model.cursor import Place, encode_cursor
from pyoco_server.gateway.read_model.filters import RunFilter
from pyoco_server.gateway.read_model.model import NotReadable, ReadModel
from pyoco_server.gateway.read_model.queries import Counts, Minute, QueryTooExpensive
from pyoco_server.gateway.read_model.rows import RunRow, local_day
from pyoco_server.gateway.read_model.schema import get_meta
from pyoco_server.kernel import Actor, Refusal, Reply, Request

A = TypeVar("A")

NOT_BUILT = "the read model is being built from the runs bucket"


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
class ListRuns(Request[Page]):
    """A page of a list.

    Attributes:
        run_filter: Which runs.
        after: Where it begins, from a cursor; None for the first page.
        limit: How many runs at most.
    """

    run_filter: RunFilter
    after: Place | None
    limit: int

    def query(self, db: sqlite3.Connection) -> Page:
        """Ask the file."""
        rows = queries.page(db, self.run_filter, self.after, self.limit + 1)
        if len(rows) <= self.limit:
            return Page(rows, None)
        last = rows[self.limit - 1]
        place = (last.updated_at, last.run_id)
        return Page(rows[: self.limit], encode_cursor(place, self.run_filter))


@dataclass(frozen=True, slots=True)
class ChangedSince(Request[list[RunRow] | None]):
    """The runs of a list that changed behind a revision, oldest first; None where they are too many."""

    run_filter: RunFilter
    seq: int
    limit: int = 1000

    def query(self, db: sqlite3.Connection) -> list[RunRow] | None:
        """Ask the file."""
        return queries.changed_since(db, self.run_filter, self.seq, self.limit)


@dataclass(frozen=True, slots=True)
class CountRuns(Request[Counts]):
    """How many runs a filter has."""

    run_filter: RunFilter

    def query(self, db: sqlite3.Connection) -> Counts:
        """Ask the file."""
        return queries.counts(db, self.run_filter)


@dataclass(frozen=True, slots=True)
class Totals:
    """How many runs there are by status, and how many of them changed last today (the local day)."""

    all: dict[str, int]
    today: dict[str, int]


@dataclass(frozen=True, slots=True)
class GetTotals(Request[Totals]):
    """How many runs there are, of one tenant or of all (None)."""

    tenant: str | None

    def query(self, db: sqlite3.Connection) -> Totals:
        """Ask the file."""
        today = local_day(time.time())
        return Totals(queries.by_status(db, self.tenant), queries.of_day(db, self.tenant, today))


@dataclass(frozen=True, slots=True)
class GetMinutes(Request[list[Minute]]):
    """What happened in each of the last ``count`` minutes, the present one included, oldest first."""

    tenant: str | None
    count: int

    def query(self, db: sqlite3.Connection) -> list[Minute]:
        """Ask the file."""
        last = int(time.time() // 60)
        return queries.minutes(db, self.tenant, last - self.count + 1, last)


Query = ListRuns | ChangedSince | CountRuns | GetTotals | GetMinutes


class Reader(Actor[Query]):
    """Each query waits in a task of its own, so that a slow one holds nobody up."""

    def __init__(self, model: ReadModel) -> None:
        self._model = model

    async def handle(self, message: Query) -> None:
        """Begin to answer a query.

        Raises:
            NotReadable: The read model cannot answer yet.
            SearchTooWide: It would take too long.
        """
        match message:
            case ListRuns():
                self.spawn(self._answer, _Open(message.query, self.reply_to(message)))
            case ChangedSince():
                self.spawn(self._answer, _Open(message.query, self.reply_to(message)))
            case CountRuns():
                self.spawn(self._answer, _Open(message.query, self.reply_to(message)))
            case GetTotals():
                self.spawn(self._answer, _Open(message.query, self.reply_to(message)))
            case GetMinutes():
                self.spawn(self._answer, _Open(message.query, self.reply_to(message)))

    async def _answer(self, open_query: _Open[Any]) -> None:
        try:
            open_query.reply.send(await self._model.read(open_query.ask))
        except QueryTooExpensive as error:
            open_query.reply.fail(SearchTooWide(str(error)))
        except NotReadable as error:
            open_query.reply.fail(error)


@dataclass(frozen=True, slots=True)
class _Open(Generic[A]):
    query: Callable[[sqlite3.Connection], A]
    reply: Reply[A]

    def ask(self, db: sqlite3.Connection) -> A:
        """Ask a file that can be read.

        Raises:
            NotReadable: Its bucket was not read to the end yet.
        """
        if get_meta(db, "built") is None:
            raise NotReadable(NOT_BUILT)
        return self.query(db)
