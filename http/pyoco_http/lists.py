"""Lists and counts of runs."""

from __future__ import annotations

from typing import Any, Final

import trio
from quart import Blueprint, Response, request

from pyoco_http.access import Access, access
from pyoco_http.answers import json_answer
from pyoco_http.list_query import RUNS, run_filter
from pyoco_http.views import run_view, wants_records
from pyoco_server.backend import Backend
from pyoco_server.gateway.read_model.filters import InvalidListCursor, RunFilter, decode_cursor
from pyoco_server.gateway.read_model.queries import Counts
from pyoco_server.gateway.read_model.rows import RunRow
from pyoco_server.jetstream.errors import BridgeError
from pyoco_server.model.run import UnreadableSnapshot
from pyoco_server.store.runs import RunNotFound

# Whoever asks for one of these knows the answer with a cursor; others get the bare list of 0.5.1.
_PAGED: Final = (
    "updated_after",
    "cursor",
    "q",
    "worker_id",
    "updated_before",
    "submitted_after",
    "submitted_before",
    "counts",
)
_READ_AT_ONCE: Final = 32

MOST_STEPS: Final = 500
"""Into how many steps `GET /runs/counts` divides a time at most."""


def lists_blueprint(backend: Backend) -> Blueprint:
    """`GET /runs` and `GET /runs/counts`."""
    blueprint = Blueprint("lists", __name__, url_prefix="/runs")
    reads = backend.reads

    @blueprint.get("")
    @access(Access.READ)
    async def list_runs() -> Response:
        wanted = run_filter()
        limit = RUNS.whole("limit", 1, 200, default=50)
        with_counts = RUNS.flag("counts")
        full = wants_records(request.args.getlist("include"))
        paged = wanted.sha256 is not None or any(name in request.args for name in _PAGED)
        after = None
        if cursor := request.args.get("cursor"):
            try:
                after = decode_cursor(cursor, wanted)
            except InvalidListCursor as error:
                raise RUNS.refused(
                    "cursor", f"next_cursor of the page before it: {error}"
                ) from None
        page = await reads.list_runs(wanted, after, limit)
        items = (
            await _snapshots(backend, page.rows, wanted)
            if full
            else [row.item() for row in page.rows]
        )
        if not paged:
            return json_answer(items)
        body: dict[str, Any] = {"items": items, "next_cursor": page.next_cursor}
        if with_counts:
            body |= counts_view(await reads.count_runs(wanted))
        return json_answer(body)

    @blueprint.get("/counts")
    @access(Access.READ)
    async def count_runs() -> Response:
        wanted = run_filter()
        steps = RUNS.whole("steps", 0, MOST_STEPS, default=0)
        first, last = wanted.submitted_after, wanted.submitted_before
        if steps and first is None:
            raise RUNS.refused("steps", "submitted_after beside it")
        body = counts_view(await reads.count_runs(wanted))
        if steps and first is not None:
            found = await reads.submissions(wanted, first, last, steps)
            body["submissions"] = [
                {"start": start, "counts": counts} for start, counts in found.steps.items()
            ]
            body["submissions_exact"] = found.exact
        return json_answer(body)

    return blueprint


def counts_view(counts: Counts) -> dict[str, Any]:
    """The counts of a list; ``exact`` is false where counting stopped at its limit."""
    return {
        "counts": counts.by_status,
        "total": sum(counts.by_status.values()),
        "exact": counts.exact,
        "flows": counts.by_flow,
        "tags": counts.by_tag,
    }


async def _snapshots(
    backend: Backend, rows: list[RunRow], wanted: RunFilter
) -> list[dict[str, Any]]:
    """The whole snapshots of a page, as they are stored now; without those that are gone by now."""
    found: dict[str, dict[str, Any]] = {}
    failures: list[BridgeError] = []
    limit = trio.CapacityLimiter(_READ_AT_ONCE)

    async def read(run_id: str) -> None:
        async with limit:
            try:
                snapshot = await backend.get(run_id)
            except (RunNotFound, UnreadableSnapshot):
                return
            except BridgeError as error:
                failures.append(error)
                return
        if wanted.tenant in (None, snapshot.tenant_id):
            found[run_id] = run_view(snapshot, records=True)

    async with trio.open_nursery() as nursery:
        for row in rows:
            nursery.start_soon(read, row.run_id)
    if failures:
        raise failures[0]
    return [found[row.run_id] for row in rows if row.run_id in found]
