"""Runs over HTTP: read and cancel."""

from __future__ import annotations

from typing import Any

from quart import Blueprint, request

from pyoco_http.access import Access, access, principal, see
from pyoco_http.views import run_view, tasks_view, wants_records, worker_liveness
from pyoco_server.backend import Backend
from pyoco_server.model.job import is_run_id
from pyoco_server.store.runs import RunNotFound


def runs_blueprint(backend: Backend) -> Blueprint:
    """The routes below ``/runs`` but submissions and the streams."""
    blueprint = Blueprint("runs", __name__, url_prefix="/runs")
    settings = backend.settings

    @blueprint.get("/<run_id>")
    @access(Access.READ)
    async def get(run_id: str) -> dict[str, Any]:
        snapshot = see(await backend.get(known_id(run_id)))
        view = run_view(snapshot, records=wants_records(request.args.getlist("include")))
        if snapshot.worker_id is not None:
            record = await backend.worker(snapshot.worker_id)
            view |= worker_liveness(record, settings.worker_disconnect_timeout_sec)
        return view

    @blueprint.get("/<run_id>/tasks")
    @access(Access.READ)
    async def tasks(run_id: str) -> dict[str, Any]:
        return tasks_view(see(await backend.get(known_id(run_id))))

    @blueprint.post("/<run_id>/cancel")
    @access(Access.SUBMIT)
    async def cancel(run_id: str) -> dict[str, Any]:
        see(await backend.get(known_id(run_id)))
        snapshot = await backend.cancel(run_id, by=principal().actor)
        return run_view(snapshot, records=False)

    return blueprint


def known_id(run_id: str) -> str:
    """The id, if it can be one; anything else is a run that does not exist, without asking NATS.

    Raises:
        RunNotFound: No run can have this id.
    """
    if not is_run_id(run_id):
        raise RunNotFound(run_id)
    return run_id
