"""What a gateway knows: single runs, lists, counts, workers, queues, and feeds of changes."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

import trio

from pyoco_server.api.runs import RunCounts, SubmissionStep
from pyoco_server.api.system import Minute, Percentiles
from pyoco_server.gateway.feeds import Feeds, ListFeed
from pyoco_server.gateway.indexer import Indexer, OnRemoved
from pyoco_server.gateway.live_runs import LiveRuns
from pyoco_server.gateway.measures import Measures
from pyoco_server.gateway.monitor import Monitor, Overview
from pyoco_server.gateway.projector import Projector
from pyoco_server.gateway.read_model import queries
from pyoco_server.gateway.read_model.durations import durations
from pyoco_server.gateway.read_model.filters import Place, RunFilter, encode_cursor
from pyoco_server.gateway.read_model.model import NotReadable, ReadModel
from pyoco_server.gateway.read_model.queries import Totals
from pyoco_server.gateway.read_model.rows import RunRow, local_day
from pyoco_server.gateway.read_model.schema import get_meta
from pyoco_server.gateway.seen_runs import SeenRuns
from pyoco_server.gateway.worker_registry import WorkerRegistry
from pyoco_server.jetstream.connection import Connection
from pyoco_server.jetstream.errors import BridgeError, Unavailable
from pyoco_server.jetstream.inventory import stream_state
from pyoco_server.jetstream.keyvalue import KeyValue
from pyoco_server.kernel import Strategy, SupervisorSpec, task
from pyoco_server.model.worker import WorkerRecord, WorkerState
from pyoco_server.settings import Settings
from pyoco_server.store.runs import RunStore

A = TypeVar("A")

_INDEXED_SECONDS: Final = 2.0
# How long an answer waits for what it should hold.
_CATCH_UP_SECONDS: Final = 1.0
_QUERY_SECONDS: Final = 5.0
_MOST_CHANGED: Final = 1000
_SEQ: Final = re.compile(r"\d{1,18}", re.ASCII)
_NOT_BUILT: Final = "the read model is being built from the runs bucket"
_WORKERS_NOT_READ: Final = "the workers bucket is being read"


@dataclass(slots=True)
class Freshness:
    """Whether what a task was answered holds all that was told before.

    Attributes:
        stale: It may not: the read side has not caught up within a second.
    """

    stale: bool = False


freshness: Final[ContextVar[Freshness | None]] = ContextVar("freshness", default=None)
"""Where the read side notes it, for a task that wants to know."""


@dataclass(frozen=True, slots=True)
class Page:
    """Runs, the newest change first.

    Attributes:
        rows: At most as many as were asked for.
        next_cursor: Where the next page begins; None when this is the last one.
    """

    rows: list[RunRow]
    next_cursor: str | None


class ReadSide:
    """What the actors of the read side keep, and calls that answer from it.

    What lists and counts tell holds all that this gateway has told before: what it acknowledged, answered and
    pushed. What others write is in it some ten milliseconds later, under load some hundred. They refuse while
    NATS is away: what they know may be old by then.

    Args:
        runs: Where single runs are read that are not known here.
        also_removed: Told the runs that left the read model, besides the followers of lists; must not block.
    """

    def __init__(
        self,
        connection: Connection,
        settings: Settings,
        runs: RunStore,
        also_removed: OnRemoved | None = None,
    ) -> None:
        self._connection = connection
        self._settings = settings
        self._also_removed = also_removed
        self._model = ReadModel(Path(settings.state_dir))
        self.measures = Measures()
        self.live = LiveRuns()
        self.seen = SeenRuns(connection, runs)
        self.feeds = Feeds(self.seen, self.now)
        runs.on_told = self.seen.note
        bucket = KeyValue(connection, settings.runs_kv_bucket)
        self._stream = bucket.stream
        self.indexer = Indexer(
            self._model, connection, bucket.bucket, self.measures, self._on_removed
        )
        self.projector = Projector(
            bucket, self.indexer, self._model, self.feeds, self.seen, self.live
        )
        self.worker_registry = WorkerRegistry(
            connection, KeyValue(connection, settings.workers_kv_bucket)
        )
        self._monitor = Monitor(connection, settings, self.indexer)
        indexer, projector = self.indexer, self.projector
        writing = (indexer.write, indexer.expire, indexer.compare)
        # When the indexer fails, what it had not written is lost: the projector begins again behind what was.
        writers = SupervisorSpec(
            "runs",
            [
                task("indexer", *writing, close=indexer.close),
                task("projector", projector.follow, close=projector.close),
            ],
            strategy=Strategy.REST_FOR_ONE,
        )
        workers = task("workers", self.worker_registry.follow)
        self.supervisor = SupervisorSpec("reading", [writers, workers])

    def _on_removed(self, rows: tuple[RunRow, ...]) -> None:
        self.live.forget(rows)
        for row in rows:
            self.seen.forget(row.run_id, row.seq)
        self.feeds.remove(rows)
        if self._also_removed is not None:
            self._also_removed(rows)

    def now(self) -> float:
        """The server's time, in unix seconds."""
        return self._connection.clock.now()

    # Runs ----------------------------------------------------------------------------------------

    async def list_runs(self, run_filter: RunFilter, after: Place | None, limit: int) -> Page:
        """A page of runs, the newest change first.

        Raises:
            Unavailable: NATS is away.
            NotReadable: The read model is being built.
            SearchTooWide: It would take too long.
        """
        now = self.now()
        rows = await self._ask(lambda db: queries.page(db, run_filter, after, limit + 1, now))
        if len(rows) <= limit:
            return Page(rows, None)
        last = rows[limit - 1]
        return Page(rows[:limit], encode_cursor((last.updated_at, last.run_id), run_filter))

    async def count_runs(self, run_filter: RunFilter) -> RunCounts:
        """How many runs a filter has; raises as `list_runs`."""
        now = self.now()
        return await self._ask(lambda db: queries.counts(db, run_filter, now))

    async def totals(self, tenant: str | None) -> Totals:
        """How many runs there are, of a tenant or of all; raises as `list_runs`."""
        now = self.now()
        return await self._ask(lambda db: queries.totals(db, tenant, local_day(now), now))

    async def tags_of(self, tenant: str) -> frozenset[str]:
        """The tags of a tenant's runs; raises as `list_runs`."""
        return await self._ask(lambda db: queries.tags(db, tenant))

    async def submissions(
        self, run_filter: RunFilter, first: float, last: float | None, steps: int
    ) -> tuple[list[SubmissionStep], bool]:
        """When the runs of a filter were submitted, up to ``last`` or now, and whether these are all.

        Raises as `list_runs`.
        """
        now = self.now()
        until = max(now if last is None else last, first + 1)
        return await self._ask(
            lambda db: queries.submissions(db, run_filter, first, until, steps, now)
        )

    async def minutes(self, tenant: str | None, count: int, step: int = 1) -> list[Minute]:
        """What happened in the last minutes, in steps of so many, the present one included.

        Raises as `list_runs`.
        """
        first, last = self._window(count, step)
        return await self._ask(lambda db: queries.minutes(db, tenant, first, last, step))

    async def durations(
        self, tenant: str | None, count: int, step: int = 1
    ) -> tuple[Percentiles, dict[int, dict[str, float]]]:
        """How long runs waited and took, in all and in the steps of `minutes`; raises as `list_runs`."""
        first, last = self._window(count, step)
        return await self._ask(lambda db: durations(db, tenant, first, last, step))

    def _window(self, count: int, step: int) -> tuple[int, int]:
        last = int(self.now() // 60)
        return (last // step - -(-count // step) + 1) * step, last

    async def changed_since(self, run_filter: RunFilter, seq: int) -> list[RunRow] | None:
        """The runs that changed behind a revision, None where they are too many, or one is gone.

        Raises as `list_runs`.
        """
        return await self._ask(lambda db: queries.changed_since(db, run_filter, seq, _MOST_CHANGED))

    async def ended_before(self, moment: float) -> list[str]:
        """Some that ended before that and do not go away by themselves; raises as `list_runs`."""
        return await self._ask(lambda db: [row.run_id for row in queries.ended_before(db, moment)])

    async def live_workflows(self) -> list[str]:
        """The digests of the flow.yaml files of runs that have not ended; raises as `list_runs`."""
        return await self._ask(queries.live_workflows)

    async def drop(self, run_ids: list[str]) -> None:
        """Take runs out of lists that are in the bucket no more.

        Raises:
            NotReadable: The read model cannot be written now; it finds out by itself later.
        """
        try:
            await self.indexer.drop(run_ids)
        except sqlite3.Error as error:
            raise NotReadable(str(error)) from None

    @asynccontextmanager
    async def follow_list(self, run_filter: RunFilter) -> AsyncIterator[tuple[ListFeed, int]]:
        """The changes of a list for the length of the block, and the revision behind which they begin.

        What was before them is in lists when the block is entered. The feed ends when the projector does.

        Raises:
            Unavailable: NATS is away.
            NotReadable: The read model is being built, or does not get on.
        """
        self._require_nats()
        with self.feeds.of_list(run_filter) as feed:
            since = self.projector.seq
            with trio.move_on_after(_INDEXED_SECONDS) as scope:
                await self.indexer.reached(since)
            if scope.cancelled_caught:
                raise NotReadable(_NOT_BUILT)
            yield feed, since

    # What was told -------------------------------------------------------------------------------

    @property
    def token(self) -> str:
        """What this gateway has told by now, for `wait_for`; empty before it has read the bucket."""
        bucket = self.projector.bucket
        return bucket and f"{bucket}-{self._told}"

    async def wait_for(self, token: str) -> None:
        """Wait until reads hold what a gateway had told when it gave this token, for a second at most.

        One of another bucket, or of none, is not waited for. What takes longer is noted in `freshness`.
        """
        bucket, _, seq = token.partition("-")
        if bucket != self.projector.bucket or not _SEQ.fullmatch(seq):
            return
        if int(seq) <= self.projector.seq:
            return
        with trio.move_on_after(_CATCH_UP_SECONDS) as waiting:
            await self.projector.reached(int(seq))
        if waiting.cancelled_caught:
            note_stale()

    @property
    def _told(self) -> int:
        """The newest revision that anybody may have been told: what the projector sees is pushed at once."""
        return max(self.seen.newest, self.projector.seq)

    async def _catch_up(self) -> None:
        """Wait until the read model has what was told, for a second at most.

        Raises:
            NotReadable: It cannot be written.
        """
        if self.projector.caught_up and self.indexer.has(self._told):
            return
        told = self._told
        with trio.move_on_after(_CATCH_UP_SECONDS) as waiting:
            if self.indexer.trouble is None:
                await self.projector.reached(told)
                await self.indexer.reached(told)
        if self.indexer.trouble is not None:
            raise NotReadable(f"the read model cannot be written: {self.indexer.trouble}")
        if waiting.cancelled_caught:
            note_stale()
            known = self.seen.newest
            with suppress(BridgeError):
                state = await stream_state(self._connection, self._stream)
                self.seen.disbelieve(state.last_seq, known)

    # Workers -------------------------------------------------------------------------------------

    async def workers(self) -> list[tuple[WorkerRecord, WorkerState]]:
        """All workers with their states as of now, last seen first.

        Raises:
            Unavailable: NATS is away.
            NotReadable: They were not read yet.
        """
        self._require_nats()
        if not self.worker_registry.caught_up:
            raise NotReadable(_WORKERS_NOT_READ)
        registry, timeout = self.worker_registry, self._settings.worker_disconnect_timeout_sec
        return [(record, registry.state(record, timeout)) for record in registry.newest_first()]

    def worker(self, worker_id: str) -> tuple[WorkerRecord | None, WorkerState]:
        """The last known record of a worker, and its state as of now; one of none is DISCONNECTED."""
        record = self.worker_registry.get(worker_id)
        if record is None:
            return None, WorkerState.DISCONNECTED
        timeout = self._settings.worker_disconnect_timeout_sec
        return record, self.worker_registry.state(record, timeout)

    # State ---------------------------------------------------------------------------------------

    async def overview(self) -> Overview:
        """Queues, dead letters and lag, not older than a second.

        Raises:
            BridgeError: NATS is away, or could not be asked.
        """
        self._require_nats()
        return await self._monitor.overview()

    async def obstacles(self) -> list[str]:
        """What keeps the read side from answering with the present state; empty for nothing."""
        found: list[str] = []
        if not self.projector.caught_up:
            found.append("the status projector has not caught up")
        if not self.worker_registry.caught_up:
            found.append(_WORKERS_NOT_READ)
        if self.indexer.trouble is not None:
            found.append(f"the read model cannot be written: {self.indexer.trouble}")
        elif self.indexer.position is None or not self.indexer.position.built:
            found.append(_NOT_BUILT)
        elif self._connection.status.connected:
            found += await self._stall()
        return found

    async def _stall(self) -> list[str]:
        try:
            overview = await self.overview()
        except BridgeError as error:
            return [f"the streams could not be looked at: {error}"]
        if not overview.stalled:
            return []
        behind = f"the read model is {overview.lag} changes behind"
        return [f"{behind} and has not moved for {overview.stalled_seconds:.0f} s"]

    async def _ask(self, query: Callable[[sqlite3.Connection], A]) -> A:
        """Ask the read model. Cancelled, a query that has begun is waited for: two seconds at most."""
        self._require_nats()
        if (position := self.indexer.position) is not None and position.built:
            await self._catch_up()

        def built(db: sqlite3.Connection) -> A:
            if get_meta(db, "built") is None:
                raise NotReadable(_NOT_BUILT)
            return query(db)

        with trio.move_on_after(_QUERY_SECONDS):
            return await self._model.read(built)
        raise NotReadable("too many ask the read model at once")

    def _require_nats(self) -> None:
        status = self._connection.status
        if not status.connected:
            raise Unavailable(status.absence)


def note_stale() -> None:
    """Note in `freshness` that what is answered may not hold all that was told before."""
    if (noted := freshness.get()) is not None:
        noted.stale = True
