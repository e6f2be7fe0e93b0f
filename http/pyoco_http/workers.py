"""Workers over HTTP: who is there, and which of them are shown."""

from __future__ import annotations

import time
from enum import StrEnum
from typing import Any, Final

import msgspec
from quart import Blueprint, Response, request

from pyoco_http.access import Access, access
from pyoco_http.answers import json_answer
from pyoco_http.list_query import Query
from pyoco_http.problems import Problem
from pyoco_http.sight import workers_seen
from pyoco_server.backend import Backend
from pyoco_server.model.errors import ErrorId
from pyoco_server.model.worker import WorkerRecord, WorkerState

_WORKERS: Final = Query("invalid workers request", ErrorId.INVALID_WORKERS_REQUEST)


class Scope(StrEnum):
    """Which workers a list has."""

    ACTIVE = "ACTIVE"
    ALL = "ALL"


class HiddenBody(msgspec.Struct, forbid_unknown_fields=True):
    """The body of `PATCH /workers/{worker_id}`."""

    hidden: bool


def workers_blueprint(backend: Backend) -> Blueprint:
    """`GET /workers` and `PATCH /workers/{worker_id}`."""
    blueprint = Blueprint("workers", __name__, url_prefix="/workers")
    reads = backend.reads

    @blueprint.get("")
    @access(Access.READ)
    async def workers() -> Response:
        scope = _WORKERS.members("scope", Scope) or (Scope.ACTIVE,)
        states = _WORKERS.members("state", WorkerState)
        hidden_too = _WORKERS.flag("include_hidden")
        limit = _WORKERS.whole("limit", 1, 500, default=100)
        found = [
            (record, state)
            for record, state in await reads.workers()
            if (hidden_too or not record.hidden)
            and (Scope.ALL in scope or state.active)
            and (not states or state in states)
        ][:limit]
        seen = await workers_seen(backend, (record for record, _ in found))
        return json_answer([worker_view(seen[record.worker_id], state) for record, state in found])

    @blueprint.patch("/<string:worker_id>")
    @access(Access.OPERATE)
    async def hide(worker_id: str) -> Response:
        try:
            body = msgspec.json.decode(await request.body, type=HiddenBody)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise Problem(
                422,
                "invalid workers request",
                ErrorId.INVALID_WORKERS_REQUEST,
                field="hidden",
                reason=f'send {{"hidden": true}} or {{"hidden": false}}: {error}',
            ) from None
        record = await reads.worker_registry.hide(worker_id, hidden=body.hidden)
        return json_answer(
            {
                "worker_id": record.worker_id,
                "hidden": record.hidden,
                "updated_at": record.updated_at or time.time(),
            }
        )

    return blueprint


def worker_view(record: WorkerRecord, state: WorkerState) -> dict[str, Any]:
    """A worker's record as a list shows it, with its state as of now."""
    return {**msgspec.to_builtins(record), "state": state}
