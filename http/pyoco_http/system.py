"""How the installation is: the supervision tree of this gateway, the queues, and what happened lately."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from quart import Blueprint, Response

from pyoco_http.access import Access, access, principal
from pyoco_http.answers import json_answer
from pyoco_http.list_query import Query
from pyoco_http.sight import tags_seen
from pyoco_server.backend import Backend
from pyoco_server.gateway.monitor import Queue
from pyoco_server.gateway.read_model.queries import Minute
from pyoco_server.kernel import TreeNode
from pyoco_server.model.errors import ErrorId

_STATS: Final = Query("invalid stats request", ErrorId.INVALID_INPUT)


def system_blueprint(backend: Backend) -> Blueprint:
    """`GET /actors`, `GET /queues` and `GET /stats`."""
    blueprint = Blueprint("system", __name__)
    reads = backend.reads

    @blueprint.get("/actors")
    @access(Access.OPERATE)
    async def actors() -> Response:
        return json_answer({"tree": node_view(backend.system.tree())})

    @blueprint.get("/queues")
    @access(Access.READ)
    async def queues() -> Response:
        overview, tags = await reads.overview(), await tags_seen(backend)
        return json_answer(
            {
                "queues": [
                    queue_view(queue)
                    for queue in overview.queues
                    if tags is None or queue.tag in tags
                ],
                "dead_letters": overview.dead_letters,
            }
        )

    @blueprint.get("/stats")
    @access(Access.READ)
    async def stats() -> Response:
        count = _STATS.whole("minutes", 1, 1440, default=60)
        minutes = await reads.minutes(principal().tenant_id, count)
        return json_answer({"minutes": [minute_view(minute) for minute in minutes]})

    return blueprint


def node_view(node: TreeNode) -> dict[str, Any]:
    """An actor or supervisor and what stands below it. Times are seconds."""
    view: dict[str, Any] = {
        "path": node.path,
        "kind": node.kind,
        "state": node.state.value,
        "incarnation": node.incarnation,
        "restarts": node.restarts,
        "up_seconds": node.up_seconds,
        "last_error": node.last_error,
        "last_error_age_seconds": node.last_error_age_seconds,
    }
    if node.mailbox is None:
        view["strategy"] = node.kind
    else:
        view |= {
            "mailbox_depth": node.mailbox.depth,
            "mailbox_capacity": node.mailbox.capacity,
            "waiting_senders": node.mailbox.waiting_senders,
        }
    if node.work is not None:
        work = node.work
        view |= {
            "messages": work.messages,
            "refusals": work.refusals,
            "busy_seconds": work.busy_seconds,
            "seconds_per_message": work.busy_seconds / work.messages if work.messages else None,
            "longest_seconds": work.longest_seconds,
        }
    view["children"] = [node_view(child) for child in node.children]
    return view


def queue_view(queue: Queue) -> dict[str, Any]:
    """The queue of a tag."""
    view: dict[str, Any] = msgspec.to_builtins(queue)
    view["waiting_pulls"] = view.pop("waiting")
    return view


def minute_view(minute: Minute) -> dict[str, Any]:
    """What happened in a minute; averages are seconds, null for none."""
    counts = {name.lower(): count for name, count in minute.counts.items()}
    return {
        "start": minute.start,
        **counts,
        "ended": counts["completed"] + counts["failed"] + counts["cancelled"],
        "wait_avg": minute.wait_seconds,
        "run_avg": minute.run_seconds,
    }
