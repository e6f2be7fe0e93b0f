"""Lists and counts of runs."""

from __future__ import annotations

from typing import Any, Final

from msgspec.structs import replace
from quart import Blueprint, request

from pyoco_http.access import Access, access, principal
from pyoco_http.call import asked
from pyoco_http.operation import described
from pyoco_http.query import refused
from pyoco_server.api.runs import (
    FullRunPage,
    Run,
    RunCounts,
    RunCountsQuery,
    RunItem,
    RunListQuery,
    RunPage,
    RunsQuery,
    shown_run,
)
from pyoco_server.backend import Backend
from pyoco_server.gateway.read_model.filters import InvalidListCursor, RunFilter, decode_cursor
from pyoco_server.gateway.read_model.rows import RunRow
from pyoco_server.jetstream.together import for_each
from pyoco_server.model.run import UnreadableSnapshot
from pyoco_server.store.runs import RunNotFound

# Whoever asks for one of these knows the answer with a cursor; others get the bare list of 0.5.1.
_PAGED: Final = (
    "updated_after",
    "workflow_yaml_sha256",
    "q",
    "worker_id",
    "updated_before",
    "submitted_after",
    "submitted_before",
    "counts",
    "late",
    "schedule_id",
    "scheduled_after",
    "scheduled_before",
)
_NOTHING: Final = RunListQuery()
_COUNTS: Final = ("counts", "total", "exact", "flows", "tags")
_READ_AT_ONCE: Final = 32


def lists_blueprint(backend: Backend) -> Blueprint:
    """`GET /runs` and `GET /runs/counts`."""
    blueprint = Blueprint("lists", __name__, url_prefix="/runs")
    reads = backend.reads

    @blueprint.get("")
    @access(Access.READ)
    @described(
        "List runs, the newest change first",
        (list[RunItem], list[Run], RunPage, FullRunPage),
        query=RunListQuery,
        doc="A bare list, or `{items, next_cursor}` as soon as a parameter beyond those of the first "
        "version is given, such as `updated_after`, `cursor` or `workflow_yaml_sha256`.",
    )
    async def list_runs() -> list[RunItem] | list[Run] | RunPage | FullRunPage:
        query = asked(RunListQuery)
        wanted = run_filter(query)
        # Its first client asks for the first page by an empty cursor.
        paged = "cursor" in request.args or any(
            getattr(query, name) != getattr(_NOTHING, name) for name in _PAGED
        )
        after = None
        if query.cursor:
            try:
                after = decode_cursor(query.cursor, wanted)
            except InvalidListCursor as error:
                takes = f"takes next_cursor of the page before it: {error}"
                raise refused(RunListQuery, "cursor", takes) from None
        page = await reads.list_runs(wanted, after, query.limit)
        more: dict[str, Any] = {"next_cursor": page.next_cursor}
        if paged and query.counts:
            counts = await reads.count_runs(wanted)
            more |= {name: getattr(counts, name) for name in _COUNTS}
        if query.include:
            whole = await _snapshots(backend, page.rows, wanted)
            return FullRunPage(items=whole, **more) if paged else whole
        items = [row.item(reads.now()) for row in page.rows]
        return RunPage(items=items, **more) if paged else items

    @blueprint.get("/counts")
    @access(Access.READ)
    @described("Count runs", RunCounts, query=RunCountsQuery)
    async def count_runs() -> RunCounts:
        query = asked(RunCountsQuery)
        wanted = run_filter(query)
        if query.steps and wanted.submitted_after is None:
            raise refused(RunCountsQuery, "steps", "takes submitted_after beside it")
        counts = await reads.count_runs(wanted)
        if not query.steps or wanted.submitted_after is None:
            return counts
        first, last = wanted.submitted_after, wanted.submitted_before
        steps, exact = await reads.submissions(wanted, first, last, query.steps)
        return replace(counts, submissions=steps, submissions_exact=exact)

    return blueprint


def run_filter(query: RunsQuery) -> RunFilter:
    """The filter that a query asks for, among the runs that the caller may see."""
    return RunFilter(
        tenant=principal().tenant_id,
        statuses=query.status,
        flow=query.flow or None,
        tag=query.tag or None,
        worker_id=query.worker_id or None,
        sha256=query.workflow_yaml_sha256 or None,
        text=query.q or None,
        late=query.late,
        updated_after=query.updated_after,
        updated_before=query.updated_before,
        submitted_after=query.submitted_after,
        submitted_before=query.submitted_before,
        schedule_id=query.schedule_id or None,
        scheduled_after=query.scheduled_after,
        scheduled_before=query.scheduled_before,
    )


async def _snapshots(backend: Backend, rows: list[RunRow], wanted: RunFilter) -> list[Run]:
    """The whole snapshots of a page, as they are stored now; without those that are gone by now."""
    found: dict[str, Run] = {}

    async def read(row: RunRow) -> None:
        try:
            snapshot = await backend.get(row.run_id)
        except (RunNotFound, UnreadableSnapshot):
            return
        if wanted.tenant in (None, snapshot.tenant_id):
            found[row.run_id] = shown_run(snapshot, backend.reads.now(), records=True)

    await for_each(rows, read, _READ_AT_ONCE)
    return [found[row.run_id] for row in rows if row.run_id in found]
