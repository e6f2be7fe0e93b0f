"""Server-sent events: the states of a run, pushed as they are stored."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from functools import partial

import trio
from quart import Blueprint, Response, request

from pyoco_http.access import Access, access, see
from pyoco_http.query import number
from pyoco_http.runs import known_id
from pyoco_http.sse import event_stream, pack, within_heartbeat
from pyoco_http.views import run_view, wants_records
from pyoco_server.backend import Backend
from pyoco_server.jetstream.errors import BridgeError
from pyoco_server.kernel import ActorDown, AskExpired


def streams_blueprint(backend: Backend) -> Blueprint:
    """`GET /runs/{run_id}/watch`."""
    blueprint = Blueprint("streams", __name__, url_prefix="/runs")

    @blueprint.get("/<run_id>/watch")
    @access(Access.READ)
    async def watch(run_id: str) -> Response:
        since = number("since")
        seconds = number("timeout_sec", 1, 600)
        records = wants_records(request.args.getlist("include"))
        # A run that does not exist is answered before the stream begins.
        see(await backend.get(known_id(run_id)))
        return event_stream(
            _events(backend, run_id, since, 60.0 if seconds is None else seconds, records=records)
        )

    return blueprint


async def _events(
    backend: Backend, run_id: str, since: float | None, seconds: float, *, records: bool
) -> AsyncGenerator[bytes, None]:
    deadline = trio.current_time() + seconds
    try:
        async with backend.watch(run_id) as states:
            first = True
            while trio.current_time() < deadline:
                waited, snapshot = await within_heartbeat(partial(anext, states, None), deadline)
                if waited and snapshot is None:
                    return
                if snapshot is not None:
                    stale = first and since is not None and (snapshot.updated_at or 0) < since
                    first = False
                    if not stale:
                        view = run_view(snapshot, records=records)
                        yield pack("snapshot", {"run_id": run_id, "snapshot": view})
                elif trio.current_time() < deadline:
                    yield pack("heartbeat", {"run_id": run_id})
    except (BridgeError, ActorDown, AskExpired):
        return  # the client reconnects, and is told then what is wrong
