"""Runs over HTTP: read, watched, cancelled, and moved as long as they have not started."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from functools import partial
from typing import Any

import msgspec
import trio
from quart import Blueprint, Response

from pyoco_http.access import Access, access, principal, run_seen
from pyoco_http.bodies import read_json
from pyoco_http.call import Answer, asked, current_call, json_body
from pyoco_http.operation import described
from pyoco_http.short_routes import short
from pyoco_http.sse import event_stream, pack, within_heartbeat
from pyoco_http.submissions import timing_of
from pyoco_server.api.runs import (
    CancelWish,
    IncludeQuery,
    Run,
    RunTasks,
    ToldOfRun,
    ToldSnapshot,
    WatchQuery,
    shown_run,
)
from pyoco_server.api.times import MoveBody
from pyoco_server.backend import Backend
from pyoco_server.jetstream.errors import BridgeError
from pyoco_server.kernel import ActorDown, AskExpired
from pyoco_server.model.run import RunSnapshot, shown
from pyoco_server.model.timing import MOVED_FIELDS, NO_TIMING
from pyoco_server.store.threads import read_aside

# They are kept in the snapshot, which has a limit of its own.
_MAX_WISH_CHARACTERS = 500
_NOT_FOUND = {404: "run not found"}


def runs_blueprint(backend: Backend) -> Blueprint:
    """The routes below ``/runs/{run_id}`` that have no module of their own."""
    blueprint = Blueprint("runs", __name__, url_prefix="/runs")
    now = backend.reads.now

    @blueprint.get("/<run_id>")
    @access(Access.READ)
    @described("Read a run", Run, query=IncludeQuery, refusals=_NOT_FOUND)
    @short
    async def get(run_id: str) -> Answer:
        snapshot = await run_seen(backend, run_id)
        records = bool(asked(IncludeQuery).include)
        worker = _told_of_worker(backend, snapshot)
        return json_body(shown_run(snapshot, now(), records=records, **worker))

    @blueprint.get("/<run_id>/tasks")
    @access(Access.READ)
    @described("Read the tasks of a run", RunTasks, refusals=_NOT_FOUND)
    @short
    async def tasks(run_id: str) -> Answer:
        run = await run_seen(backend, run_id)
        return json_body(msgspec.convert(shown(run), RunTasks, from_attributes=True))

    @blueprint.post("/<run_id>/cancel")
    @access(Access.SUBMIT)
    @described(
        "Cancel a run",
        Run,
        body={"application/json": {"description": "An object with reason and requested_by."}},
        body_required=False,
        refusals=_NOT_FOUND,
        doc="A run that has ended is returned as it is. A body that is not understood is ignored.",
    )
    @short
    async def cancel(run_id: str) -> Answer:
        await run_seen(backend, run_id)
        wish = _cancel_wish(current_call().body)
        by = principal().actor or wish.requested_by
        snapshot = await backend.cancel(run_id, by=by, reason=wish.reason)
        return json_body(shown_run(snapshot, now(), records=False))

    @blueprint.patch("/<run_id>")
    @access(Access.SUBMIT)
    @described(
        "Change when a run that has not started may start, or until when",
        Run,
        body=MoveBody,
        refusals={
            **_NOT_FOUND,
            409: "run cannot be moved",
            422: "a time that cannot be one",
        },
        doc="A start that has passed means now. What is not given stays as it is.",
    )
    @short
    async def move(run_id: str) -> Answer:
        snapshot = await run_seen(backend, run_id)
        raw = current_call().body
        body = await read_aside(len(raw), partial(read_json, raw, MoveBody))
        timing = timing_of(body, now(), MOVED_FIELDS)
        if timing != NO_TIMING:
            snapshot = await backend.move(run_id, timing)
        return json_body(shown_run(snapshot, now(), records=False))

    @blueprint.get("/<run_id>/watch")
    @access(Access.READ)
    @described(
        "Follow a run by server-sent events",
        {},
        events={"snapshot": ToldSnapshot, "heartbeat": ToldOfRun},
        query=WatchQuery,
        refusals=_NOT_FOUND,
        doc="`snapshot` at once and on every change, `heartbeat` when 5 seconds pass without one.",
    )
    async def watch(run_id: str) -> Response:
        # A run that does not exist is answered before the stream begins.
        await run_seen(backend, run_id)
        return event_stream(_states(backend, run_id, asked(WatchQuery)))

    return blueprint


def _told_of_worker(backend: Backend, snapshot: RunSnapshot) -> dict[str, Any]:
    """What is told of the worker that has a run, or had it."""
    if snapshot.worker_id is None:
        return {}
    record, state = backend.reads.worker(snapshot.worker_id)
    told: dict[str, Any] = {
        "worker_alive": False,
        "worker_state": state,
        "worker_heartbeat_at": None,
    }
    if record is None:
        return told
    own, everything = {snapshot.tag, *snapshot.tags}, principal().knows_all
    return told | {
        "worker_alive": state.active,
        "worker_heartbeat_at": record.last_heartbeat_at,
        "worker_hidden": record.hidden,
        "worker_tags": [tag for tag in record.tags if everything or tag in own],
    }


async def _states(backend: Backend, run_id: str, wanted: WatchQuery) -> AsyncGenerator[bytes, None]:
    deadline = trio.current_time() + wanted.timeout_sec
    since = wanted.since
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
                    # Nothing follows an end, for which whoever follows a run waits.
                    if not stale or snapshot.status.terminal:
                        now = backend.reads.now()
                        run = shown_run(snapshot, now, records=bool(wanted.include))
                        yield pack("snapshot", ToldSnapshot(run_id=run_id, snapshot=run))
                elif trio.current_time() < deadline:
                    yield pack("heartbeat", ToldOfRun(run_id=run_id))
    except (BridgeError, ActorDown, AskExpired):
        return  # the client reconnects, and is told then what is wrong


def _cancel_wish(raw: bytes) -> CancelWish:
    """What a cancel's body says; one of another kind is ignored, as 0.5.1 ignores every body."""
    try:
        wish = msgspec.json.decode(raw, type=CancelWish)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return CancelWish()
    return CancelWish(_short(wish.reason), _short(wish.requested_by))


def _short(text: str | None) -> str | None:
    return (text or "").strip()[:_MAX_WISH_CHARACTERS] or None
