"""What a gateway knows: lists, counts, workers, queues, and feeds of changes; typed calls to its actors."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import structlog
import trio

from pyoco_server.gateway.feeds import ListFeed, RunFeed
from pyoco_server.gateway.indexer import (
    GetPosition,
    GetTrouble,
    Indexer,
    IndexerMessage,
    OnRemoved,
)
from pyoco_server.gateway.measures import Measures
from pyoco_server.gateway.monitor import GetOverview, Monitor, MonitorMessage, NotSeen, Overview
from pyoco_server.gateway.projector import (
    Follow,
    FollowList,
    GetProgress,
    Progress,
    Projector,
    ProjectorMessage,
    RunsRemoved,
    Unfollow,
)
from pyoco_server.gateway.read_model.cursor import Place
from pyoco_server.gateway.read_model.filters import RunFilter
from pyoco_server.gateway.read_model.model import NotReadable, ReadModel
from pyoco_server.gateway.read_model.queries import Counts, Minute
from pyoco_server.gateway.read_model.rows import RunRow
from pyoco_server.gateway.reader import (
    NOT_BUILT,
    ChangedSince,
    CountRuns,
    GetMinutes,
    GetTotals,
    ListRuns,
    Page,
    Query,
    Reader,
    Totals,
)
from pyoco_server.gateway.reconciler import Reconciler
from pyoco_server.gateway.worker_registry import (
    GetWorker,
    HideWorker,
    ListWorkers,
    OrderWorker,
    RegistryMessage,
    WorkerRegistry,
    WorkersSeen,
)
from pyoco_server.jetstream.connection import Connection
from pyoco_server.jetstream.errors import Unavailable
from pyoco_server.jetstream.keyvalue import KeyValue
from pyoco_server.kernel import (
    ActorDown,
    ActorRef,
    ChildSpec,
    MailboxFull,
    Strategy,
    SupervisorSpec,
)
from pyoco_server.model.worker import WorkerOrder, WorkerRecord, WorkerState, effective_state
from pyoco_server.settings import Settings

log = structlog.get_logger(__name__)

_QUICK_SECONDS: Final = 2.0
_QUERY_SECONDS: Final = 5.0
_WRITE_SECONDS: Final = 15.0
_MAILBOX: Final = 1024
_LOOK_SECONDS: Final = 0.005
_WORKERS_NOT_READ: Final = "the workers bucket is being read"


@dataclass(frozen=True, eq=False)
class ReadSide:
    """The actors of the read side; made by `read_side`. Every call may raise `ActorDown` or `AskExpired`.

    What lists and counts tell is behind the bucket by some ten milliseconds. They refuse while NATS is away:
    what they know may be old by then.
    """

    connection: Connection
    settings: Settings
    measures: Measures
    supervisor: SupervisorSpec
    registry: ActorRef[RegistryMessage]
    indexer: ActorRef[IndexerMessage]
    projector: ActorRef[ProjectorMessage]
    reader: ActorRef[Query]
    monitor: ActorRef[MonitorMessage]

    # Runs ----------------------------------------------------------------------------------------

    async def list_runs(self, run_filter: RunFilter, after: Place | None, limit: int) -> Page:
        """A page of runs, the newest change first.

        Raises:
            Unavailable: NATS is away.
            NotReadable: The read model is being built.
            SearchTooWide: It would take too long.
        """
        self._require_nats()
        return await self.reader.ask(ListRuns(run_filter, after, limit), within=_QUERY_SECONDS)

    async def count_runs(self, run_filter: RunFilter) -> Counts:
        """How many runs a filter has; raises as `list_runs`."""
        self._require_nats()
        return await self.reader.ask(CountRuns(run_filter), within=_QUERY_SECONDS)

    async def totals(self, tenant: str | None) -> Totals:
        """How many runs there are, of a tenant or of all; raises as `list_runs`."""
        self._require_nats()
        return await self.reader.ask(GetTotals(tenant), within=_QUERY_SECONDS)

    async def minutes(self, tenant: str | None, count: int) -> list[Minute]:
        """What happened in each of the last minutes; raises as `list_runs`."""
        self._require_nats()
        return await self.reader.ask(GetMinutes(tenant, count), within=_QUERY_SECONDS)

    async def changed_since(self, run_filter: RunFilter, seq: int) -> list[RunRow] | None:
        """The runs that changed behind a revision, None where they are too many; raises as `list_runs`."""
        self._require_nats()
        return await self.reader.ask(ChangedSince(run_filter, seq), within=_QUERY_SECONDS)

    async def follow_run(self, run_id: str) -> RunFeed:
        """Open a feed of one run, of what changes from now on; `unfollow` it."""
        feed = RunFeed(run_id)
        try:
            await self.projector.ask(Follow(feed), within=_QUICK_SECONDS)
        except BaseException:  # cancelled, or not in time: the projector may get it later
            await self.unfollow(feed)
            raise
        return feed

    @asynccontextmanager
    async def follow_list(self, run_filter: RunFilter) -> AsyncIterator[tuple[ListFeed, int]]:
        """The changes of a list for the length of the block, and the revision behind which they begin.

        What was before them is in lists when the block is entered. The feed ends when the projector does.

        Raises:
            Unavailable: NATS is away.
            NotReadable: The read model is being built, or does not get on.
        """
        self._require_nats()
        feed = ListFeed(run_filter)
        try:
            since = await self.projector.ask(FollowList(feed), within=_QUICK_SECONDS)
            await self._indexed(since)
            yield feed, since
        finally:
            await self.unfollow(feed)

    async def _indexed(self, seq: int) -> None:
        with trio.move_on_after(_QUICK_SECONDS):
            while True:
                position = await self.indexer.ask(GetPosition(), within=_QUICK_SECONDS)
                if position.built and position.seq >= seq:
                    return
                await trio.sleep(_LOOK_SECONDS)  # it commits some ten milliseconds later
        raise NotReadable(NOT_BUILT)

    async def unfollow(self, feed: RunFeed | ListFeed) -> None:
        """Close a feed, also when cancelled."""
        with trio.CancelScope(deadline=trio.current_time() + 1.0, shield=True):
            try:
                await self.projector.tell(Unfollow(feed))
            except ActorDown:
                return  # it closed all its feeds

    async def progress(self) -> Progress:
        """How far the projector is."""
        return await self.projector.ask(GetProgress(), within=_QUICK_SECONDS)

    # Workers -------------------------------------------------------------------------------------

    async def worker(self, worker_id: str) -> WorkerRecord | None:
        """The last known record of a worker, None where there is none."""
        return await self.registry.ask(GetWorker(worker_id), within=_QUICK_SECONDS)

    async def workers(self) -> tuple[tuple[WorkerRecord, WorkerState], ...]:
        """All workers with their states as of now, last seen first.

        Raises:
            Unavailable: NATS is away.
            NotReadable: They were not read yet.
        """
        self._require_nats()
        records = await self.registry.ask(ListWorkers(), within=_QUICK_SECONDS)
        if records is None:
            raise NotReadable(_WORKERS_NOT_READ)
        now, timeout = time.time(), self.settings.worker_disconnect_timeout_sec
        return tuple((record, effective_state(record, now, timeout)) for record in records)

    async def hide_worker(self, worker_id: str, *, hidden: bool) -> WorkerRecord:
        """Hide a worker, or show it again; return the stored record.

        Raises:
            WorkerNotFound: There is none with this id.
            WorkerNotChanged: NATS refused or could not be asked.
        """
        return await self.registry.ask(HideWorker(worker_id, hidden), within=_WRITE_SECONDS)

    async def order_worker(self, worker_id: str, order: WorkerOrder) -> WorkerRecord:
        """Tell a worker to pause, resume or drain; return the stored record.

        Raises:
            WorkerNotFound: There is none with this id.
            WorkerNotSteerable: It is of version 0.5.1.
            WorkerNotChanged: NATS refused or could not be asked.
        """
        return await self.registry.ask(OrderWorker(worker_id, order), within=_WRITE_SECONDS)

    # State ---------------------------------------------------------------------------------------

    async def overview(self) -> Overview:
        """Queues, dead letters and lag, not older than a second.

        Raises:
            NotSeen: NATS could not be asked.
        """
        self._require_nats()
        return await self.monitor.ask(GetOverview(), within=_QUERY_SECONDS)

    async def obstacles(self) -> list[str]:
        """What keeps the read side from answering with the present state; empty for nothing.

        Raises:
            ActorDown: An actor is being restarted.
            AskExpired: One does not answer.
        """
        found: list[str] = []
        if not (await self.progress()).caught_up:
            found.append("the status projector has not caught up")
        if not await self.registry.ask(WorkersSeen(), within=_QUICK_SECONDS):
            found.append(_WORKERS_NOT_READ)
        trouble = await self.indexer.ask(GetTrouble(), within=_QUICK_SECONDS)
        if trouble is not None:
            found.append(f"the read model cannot be written: {trouble}")
        elif not (await self.indexer.ask(GetPosition(), within=_QUICK_SECONDS)).built:
            found.append(NOT_BUILT)
        elif self.connection.status.connected:
            found += await self._stall()
        return found

    async def _stall(self) -> list[str]:
        try:
            overview = await self.overview()
        except (NotSeen, Unavailable) as error:
            return [f"the streams could not be looked at: {error}"]
        if not overview.stalled:
            return []
        behind = f"the read model is {overview.lag} changes behind"
        return [f"{behind} and has not moved for {overview.stalled_seconds:.0f} s"]

    def _require_nats(self) -> None:
        status = self.connection.status
        if not status.connected:
            raise Unavailable(f"NATS is not connected: {status.last_error or 'connecting'}")


def read_side(
    connection: Connection, settings: Settings, also_removed: OnRemoved | None = None
) -> ReadSide:
    """Put the read side together.

    Args:
        connection: The way to NATS.
        settings: The settings.
        also_removed: Told the runs that left the read model, besides the followers of lists; must not block.

    When the indexer crashes, what it had not written is lost: the projector begins again behind what was.
    """
    model, measures = ReadModel(Path(settings.state_dir)), Measures()
    runs = KeyValue(connection, settings.runs_kv_bucket)

    def on_removed(rows: tuple[RunRow, ...]) -> None:
        try:
            projector.ref.try_tell(RunsRemoved(rows))
        except (MailboxFull, ActorDown) as error:
            log.warning("followers of lists not told of removed runs", reason=str(error))
        if also_removed is not None:
            also_removed(rows)

    indexer: ChildSpec[IndexerMessage] = ChildSpec(
        "indexer", lambda: Indexer(model, measures, on_removed), mailbox_capacity=_MAILBOX
    )
    projector: ChildSpec[ProjectorMessage] = ChildSpec(
        "projector", lambda: Projector(runs, indexer.ref), mailbox_capacity=_MAILBOX
    )
    reconciler: ChildSpec[Any] = ChildSpec(
        "reconciler", lambda: Reconciler(connection, settings.runs_kv_bucket, indexer.ref)
    )
    registry: ChildSpec[RegistryMessage] = ChildSpec(
        "workers",
        lambda: WorkerRegistry(connection, KeyValue(connection, settings.workers_kv_bucket)),
        mailbox_capacity=_MAILBOX,
    )
    reader: ChildSpec[Query] = ChildSpec("reader", lambda: Reader(model), mailbox_capacity=_MAILBOX)
    monitor: ChildSpec[MonitorMessage] = ChildSpec(
        "monitor", lambda: Monitor(connection, settings, indexer.ref), mailbox_capacity=_MAILBOX
    )
    copy = SupervisorSpec("runs", [indexer, projector, reconciler], strategy=Strategy.REST_FOR_ONE)
    return ReadSide(
        connection,
        settings,
        measures,
        SupervisorSpec("reading", [copy, registry, reader, monitor]),
        registry.ref,
        indexer.ref,
        projector.ref,
        reader.ref,
        monitor.ref,
    )
