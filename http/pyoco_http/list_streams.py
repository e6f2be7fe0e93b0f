"""`GET /runs/stream`: the changes of a list of runs, pushed, for those that show one."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator
from dataclasses import dataclass

import trio
from quart import Blueprint, Response, request

from pyoco_http.access import Access, access
from pyoco_http.call import asked
from pyoco_http.lists import run_filter
from pyoco_http.operation import LAST_EVENT_ID, described
from pyoco_http.sse import event_stream, pack, within_heartbeat
from pyoco_server.api.runs import RunStreamQuery, Told, ToldCounts, ToldItem, ToldOfRun
from pyoco_server.backend import Backend
from pyoco_server.gateway.feeds import ListEvent, Missed, RunChanged, RunRemoved
from pyoco_server.gateway.read_model.filters import RunFilter
from pyoco_server.gateway.read_model.model import NotReadable
from pyoco_server.gateway.read_model.queries import SearchTooWide
from pyoco_server.gateway.read_side import ReadSide
from pyoco_server.jetstream.errors import BridgeError
from pyoco_server.kernel import ActorDown, AskExpired

_COUNTS_SECONDS = 1.0


def list_streams_blueprint(backend: Backend) -> Blueprint:
    """`GET /runs/stream`."""
    blueprint = Blueprint("list_streams", __name__, url_prefix="/runs")
    reads = backend.reads

    @blueprint.get("/stream")
    @access(Access.READ)
    @described(
        "Follow a list of runs by server-sent events",
        {},
        events={
            "hello": Told,
            "run": ToldItem,
            "gone": ToldOfRun,
            "reset": Told,
            "counts": ToldCounts,
            "heartbeat": Told,
        },
        query=RunStreamQuery,
        headers=(LAST_EVENT_ID,),
        doc="`hello`, then `run` and `gone` for each change, `reset` when the list has to be loaded "
        "again, `counts`, and `heartbeat` when 5 seconds pass without one.",
    )
    async def stream() -> Response:
        query = asked(RunStreamQuery)
        wanted, seconds = run_filter(query), query.timeout_sec
        # A browser sends the header when it comes back; the parameter is for those that cannot set one.
        last_id = request.headers.get("Last-Event-ID") or query.last_event_id
        # What stands in the way is told before the stream begins.
        await reads.count_runs(RunFilter(tenant=wanted.tenant))
        deadline = math.inf if seconds is None else trio.current_time() + seconds
        streaming = _ListStream(reads, wanted, last_id, deadline, with_counts=query.counts)
        return event_stream(streaming.events())

    return blueprint


@dataclass
class _ListStream:
    """One client's stream.

    Its events are ``hello`` (from now on nothing is missed, so load the list now), ``run`` (a run as it
    is now), ``gone`` (a run is not in the list, or not any more), ``reset`` (load the list again),
    ``counts`` and ``heartbeat``.
    """

    reads: ReadSide
    run_filter: RunFilter
    last_id: str
    deadline: float
    with_counts: bool
    bucket: str = ""
    counted_at: float = -math.inf

    async def events(self) -> AsyncGenerator[bytes, None]:
        """The events; where something breaks they end, and the client comes back and is told why."""
        try:
            async with self.reads.follow_list(self.run_filter) as (feed, since):
                self.bucket = self.reads.projector.bucket
                # Who comes back is behind what was missed only when all of that was sent.
                yield pack("hello", Told(), None if self.last_id else self._id(since))
                replayed: dict[str, int] = {}
                for event in await self._missed(since):
                    if isinstance(event, RunChanged):
                        replayed[event.row.run_id] = event.seq
                    yield self._packed(event)
                changed = True
                while trio.current_time() < self.deadline and not feed.closed:
                    if self.with_counts and changed and self._counts_due():
                        changed = False
                        yield await self._counts()
                    came, taken = await within_heartbeat(feed.next, self._wake_at(changed=changed))
                    for event in taken or ():
                        changed = True
                        if not (isinstance(event, RunChanged) and _known(event, replayed)):
                            yield self._packed(event)
                    beating = not (came or (changed and self.with_counts))
                    if beating and trio.current_time() < self.deadline:
                        yield pack("heartbeat", Told())
        except (BridgeError, ActorDown, AskExpired, NotReadable, SearchTooWide):
            return

    async def _missed(self, since: int) -> list[ListEvent]:
        """What the client missed since the event that it had last."""
        if not self.last_id:
            return []
        bucket, _, seq = self.last_id.partition("-")
        if bucket != self.bucket or not (seq.isascii() and seq.isdigit()) or len(seq) > 18:
            return [Missed(since)]
        rows = await self.reads.changed_since(self.run_filter, int(seq))
        if rows is None:
            return [Missed(since)]
        return [RunChanged(row, self.run_filter.matches(row, self.reads.now())) for row in rows]

    def _packed(self, event: ListEvent) -> bytes:
        match event:
            case RunChanged(row, True):
                return pack("run", ToldItem(run=row.item(self.reads.now())), self._id(row.seq))
            case RunChanged(row, _):
                return pack("gone", ToldOfRun(run_id=row.run_id), self._id(row.seq))
            case RunRemoved(run_id):
                return pack("gone", ToldOfRun(run_id=run_id))
            case Missed(seq):
                return pack("reset", Told(), self._id(seq))

    def _id(self, seq: int) -> str:
        return f"{self.bucket}-{seq}"

    def _counts_due(self) -> bool:
        return trio.current_time() >= self.counted_at + _COUNTS_SECONDS

    def _wake_at(self, *, changed: bool) -> float:
        if changed and self.with_counts:
            return min(self.deadline, self.counted_at + _COUNTS_SECONDS)
        return self.deadline

    async def _counts(self) -> bytes:
        counts = await self.reads.count_runs(self.run_filter)
        self.counted_at = trio.current_time()
        return pack("counts", ToldCounts(counts=counts.counts, exact=counts.exact))


def _known(event: RunChanged, replayed: dict[str, int]) -> bool:
    """Whether the client has been sent this state or a newer one."""
    return bool(replayed) and event.seq <= replayed.get(event.row.run_id, 0)
