"""Runs over HTTP: read and cancel."""

from __future__ import annotations

import msgspec
from quart import Blueprint

from pyoco_http.access import Access, access
from pyoco_http.answers import Answer, json_body
from pyoco_http.call import Call
from pyoco_http.short_routes import short
from pyoco_http.views import run_view, tasks_view, wants_records, worker_liveness
from pyoco_server.backend import Backend
from pyoco_server.model.job import is_run_id
from pyoco_server.store.runs import RunNotFound

# They are kept in the snapshot, which has a limit of its own.
_MAX_WISH_CHARACTERS = 500


class _CancelWish(msgspec.Struct):
    reason: str | None = None
    requested_by: str | None = None


def runs_blueprint(backend: Backend) -> Blueprint:
    """The routes below ``/runs`` but submissions and the streams."""
    blueprint = Blueprint("runs", __name__, url_prefix="/runs")

    @blueprint.get("/<run_id>")
    @access(Access.READ)
    @short
    async def get(call: Call, run_id: str) -> Answer:
        snapshot = call.see(await backend.get(known_id(run_id)))
        view = run_view(snapshot, records=wants_records(call.args("include")))
        if snapshot.worker_id is not None:
            view |= worker_liveness(*backend.reads.worker(snapshot.worker_id))
            if not call.principal.knows_all:
                own = {snapshot.tag, *snapshot.tags}
                view["worker_tags"] = [tag for tag in view.get("worker_tags", ()) if tag in own]
        return json_body(view)

    @blueprint.get("/<run_id>/tasks")
    @access(Access.READ)
    @short
    async def tasks(call: Call, run_id: str) -> Answer:
        return json_body(tasks_view(call.see(await backend.get(known_id(run_id)))))

    @blueprint.post("/<run_id>/cancel")
    @access(Access.SUBMIT)
    @short
    async def cancel(call: Call, run_id: str) -> Answer:
        call.see(await backend.get(known_id(run_id)))
        wish = _cancel_wish(call.body)
        by = call.principal.actor or wish.requested_by
        snapshot = await backend.cancel(run_id, by=by, reason=wish.reason)
        return json_body(run_view(snapshot, records=False))

    return blueprint


def _cancel_wish(raw: bytes) -> _CancelWish:
    """What a cancel's body says; one of another kind is ignored, as 0.5.1 ignores every body."""
    try:
        wish = msgspec.json.decode(raw, type=_CancelWish)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return _CancelWish()
    return _CancelWish(_short(wish.reason), _short(wish.requested_by))


def _short(text: str | None) -> str | None:
    return (text or "").strip()[:_MAX_WISH_CHARACTERS] or None


def known_id(run_id: str) -> str:
    """The id, if it can be one; anything else is a run that does not exist, without asking NATS.

    Raises:
        RunNotFound: No run can have this id.
    """
    if not is_run_id(run_id):
        raise RunNotFound(run_id)
    return run_id
