"""Workers over HTTP: who is there, which of them are shown, and what they are told to do."""

from __future__ import annotations

import time

import msgspec
from msgspec.structs import replace
from quart import Blueprint, request

from pyoco_http.access import Access, access, principal
from pyoco_http.bodies import read_json
from pyoco_http.call import asked
from pyoco_http.operation import described
from pyoco_http.sight import workers_seen
from pyoco_server.api.workers import (
    HiddenBody,
    OrderBody,
    Scope,
    WorkerHidden,
    WorkerOrdered,
    WorkersQuery,
)
from pyoco_server.backend import Backend
from pyoco_server.model.worker import WorkerOrder, WorkerRecord

_NOT_FOUND = {404: "worker not found"}
_NO_ORDER = {**_NOT_FOUND, 409: "worker takes no orders"}


def workers_blueprint(backend: Backend) -> Blueprint:
    """The routes below ``/workers``."""
    blueprint = Blueprint("workers", __name__, url_prefix="/workers")
    reads = backend.reads

    @blueprint.get("")
    @access(Access.READ)
    @described("List workers, last seen first", list[WorkerRecord], query=WorkersQuery)
    async def workers() -> list[WorkerRecord]:
        query = asked(WorkersQuery)
        found = [
            (record, state)
            for record, state in await reads.workers()
            if (query.include_hidden or not record.hidden)
            and (query.scope is Scope.ALL or state.active)
            and (not query.state or state in query.state)
        ]
        seen = await workers_seen(backend, (record for record, _ in found))
        # As stored, but with the state as of now.
        shown = [replace(seen[record.worker_id], state=state) for record, state in found]
        return [w for w in shown if not query.tag or query.tag in w.tags][: query.limit]

    @blueprint.patch("/<string:worker_id>")
    @access(Access.OPERATE)
    @described(
        "Hide a worker from lists, or show it again",
        WorkerHidden,
        body=HiddenBody,
        refusals=_NOT_FOUND,
    )
    async def hide(worker_id: str) -> WorkerHidden:
        body = read_json(await request.body, HiddenBody)
        record = await reads.worker_registry.hide(worker_id, hidden=body.hidden)
        return WorkerHidden(
            worker_id=record.worker_id,
            hidden=record.hidden,
            updated_at=record.updated_at or time.time(),
        )

    def takes(order: WorkerOrder, summary: str) -> None:
        async def view(worker_id: str) -> WorkerOrdered:
            raw: bytes = await request.body
            wish = read_json(raw, OrderBody) if raw else OrderBody()
            by = principal().actor or wish.requested_by
            record = await reads.worker_registry.order(worker_id, order, by=by, reason=wish.reason)
            return msgspec.convert(record, WorkerOrdered, from_attributes=True)

        view.__name__ = order.value
        described_view = described(
            summary, WorkerOrdered, body=OrderBody, body_required=False, refusals=_NO_ORDER
        )(view)
        blueprint.post(f"/<string:worker_id>/{order}")(access(Access.OPERATE)(described_view))

    takes(WorkerOrder.PAUSE, "Let a worker take no further job")
    takes(WorkerOrder.RESUME, "Let a paused worker take jobs again")
    takes(WorkerOrder.DRAIN, "Let a worker finish what it runs, and end")
    return blueprint
