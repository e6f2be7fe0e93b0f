"""What happened in a run, and what its flow looks like."""

from __future__ import annotations

from typing import Any

import msgspec
from quart import Blueprint, Response, request

from pyoco_http.access import Access, access, see
from pyoco_http.event_pages import cursor, follows, limit, page
from pyoco_http.event_streams import EventStream
from pyoco_http.problems import Problem
from pyoco_http.query import refuse
from pyoco_http.runs import known_id
from pyoco_server.backend import Backend
from pyoco_server.gateway.run_graph import run_graph
from pyoco_server.model.errors import ErrorId
from pyoco_server.model.event import EVENT_TYPES, Event


def events_blueprint(backend: Backend) -> Blueprint:
    """`GET /runs/{run_id}/events`, ``…/graph`` and ``…/workflow``."""
    blueprint = Blueprint("events", __name__, url_prefix="/runs")

    @blueprint.get("/<run_id>/events")
    @access(Access.READ)
    async def events(run_id: str) -> dict[str, Any] | Response:
        run = see(await backend.get(known_id(run_id)))
        kinds = _kinds()
        after = cursor()
        most = limit()

        def takes(event: Event) -> bool:
            return kinds is None or event.__struct_config__.tag in kinds

        if follows():
            return EventStream(backend, run, after, takes).sse()
        return await page(backend, run, after, takes, most)

    @blueprint.get("/<run_id>/graph")
    @access(Access.READ)
    async def graph(run_id: str) -> dict[str, Any]:
        run = see(await backend.get(known_id(run_id)))
        found = await run_graph(run, backend.workflows, backend.events)
        if found is None:
            raise Problem(
                404,
                "graph not known",
                ErrorId.RUN_NOT_FOUND,
                run_id=run_id,
                reason="the run brought no flow.yaml, and its flow is known only when it has begun",
            )
        source, structure = found
        return {
            "run_id": run_id,
            "flow_name": run.flow_name,
            "source": source,
            **msgspec.to_builtins(structure),
        }

    @blueprint.get("/<run_id>/workflow")
    @access(Access.READ)
    async def workflow(run_id: str) -> Response:
        run = see(await backend.get(known_id(run_id)))
        digest = run.workflow_yaml_sha256
        text = None if digest is None else await backend.workflows.get(digest)
        if text is None:
            missing = "the run brought no flow.yaml" if digest is None else "it is kept no more"
            raise Problem(
                404, "workflow not found", ErrorId.RUN_NOT_FOUND, run_id=run_id, reason=missing
            )
        return Response(text, content_type="application/yaml; charset=utf-8")

    return blueprint


def _kinds() -> frozenset[str] | None:
    asked = frozenset(filter(None, ",".join(request.args.getlist("type")).split(",")))
    if not asked <= frozenset(EVENT_TYPES):
        raise refuse("type", f"takes {', '.join(EVENT_TYPES)}")
    return asked or None
