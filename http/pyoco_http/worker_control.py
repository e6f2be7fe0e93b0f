"""Orders to workers over HTTP: pause, resume, drain."""

from __future__ import annotations

from quart import Blueprint, Response

from pyoco_http.access import Access, access
from pyoco_http.answers import json_answer
from pyoco_server.backend import Backend
from pyoco_server.model.worker import WorkerOrder


def worker_control_blueprint(backend: Backend) -> Blueprint:
    """`POST /workers/{worker_id}/pause`, `/resume` and `/drain`."""
    blueprint = Blueprint("worker_control", __name__, url_prefix="/workers/<string:worker_id>")

    @blueprint.post("/pause")
    @access(Access.OPERATE)
    async def pause(worker_id: str) -> Response:
        return await order(worker_id, WorkerOrder.PAUSE)

    @blueprint.post("/resume")
    @access(Access.OPERATE)
    async def resume(worker_id: str) -> Response:
        return await order(worker_id, WorkerOrder.RESUME)

    @blueprint.post("/drain")
    @access(Access.OPERATE)
    async def drain(worker_id: str) -> Response:
        return await order(worker_id, WorkerOrder.DRAIN)

    async def order(worker_id: str, what: WorkerOrder) -> Response:
        record = await backend.reads.worker_registry.order(worker_id, what)
        return json_answer(
            {
                "worker_id": record.worker_id,
                "instance_id": record.instance_id,
                "paused": record.paused,
                "draining": record.draining,
                "updated_at": record.updated_at,
            }
        )

    return blueprint
