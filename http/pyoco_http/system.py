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
from pyoco_server.gateway.read_model.durations import Durations
from pyoco_server.gateway.read_model.queries import Minute
from pyoco_server.kernel import TreeNode
from pyoco_server.model.errors import ErrorId

_STATS: Final = Query("invalid stats request", ErrorId.INVALID_INPUT)

MOST_MINUTES: Final = 43_200
MOST_STEPS: Final = 1440
"""How far `GET /stats` looks back, and into how many parts it is divided at most."""


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
        count = _STATS.whole("minutes", 1, MOST_MINUTES, default=60)
        step = _STATS.whole("step_minutes", 1, MOST_MINUTES, default=1)
        if count > MOST_STEPS * step:
            raise _STATS.refused(
                "step_minutes", f"at least {-(-count // MOST_STEPS)} for so many minutes"
            )
        tenant = principal().tenant_id
        minutes = [minute_view(minute) for minute in await reads.minutes(tenant, count, step)]
        if not _STATS.flag("percentiles"):
            return json_answer({"minutes": minutes})
        found = await reads.durations(tenant, count, step)
        for minute in minutes:
            minute.update(_percentiles(found, minute["start"] // 60))
        whole = {"wait": _named(found.wait), "run": _named(found.run), "every": found.every}
        return json_answer({"minutes": minutes, "percentiles": whole})

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


def _percentiles(found: Durations, minute: int) -> dict[str, float]:
    parts = (("wait", found.waits), ("run", found.runs))
    return {
        f"{name}_{key}": value
        for name, by_minute in parts
        for key, value in _named(by_minute.get(minute, {})).items()
    }


def _named(percentiles: dict[int, float]) -> dict[str, float]:
    return {f"p{number}": seconds for number, seconds in percentiles.items()}
