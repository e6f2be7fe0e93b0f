"""What happened in a run, and what its flow looks like."""

from __future__ import annotations

from quart import Blueprint, Response

from pyoco_http.access import Access, access, run_seen
from pyoco_http.call import asked
from pyoco_http.event_pages import cursor, follows, page
from pyoco_http.event_streams import followed, sse_of
from pyoco_http.operation import LAST_EVENT_ID, described
from pyoco_http.problems import Problem
from pyoco_server.api.events import EventPage, EventsQuery, RunGraph
from pyoco_server.api.runs import ToldEnd, ToldOfRun
from pyoco_server.backend import Backend
from pyoco_server.gateway.run_graph import run_graph
from pyoco_server.model.errors import ErrorId
from pyoco_server.model.event import EVENT_KINDS, Event, type_of


def events_blueprint(backend: Backend) -> Blueprint:
    """`GET /runs/{run_id}/events`, ``…/graph`` and ``…/workflow``."""
    blueprint = Blueprint("events", __name__, url_prefix="/runs")

    @blueprint.get("/<run_id>/events")
    @access(Access.READ)
    @described(
        "Read or follow what happened in a run",
        EventPage,
        events={**EVENT_KINDS, "heartbeat": ToldOfRun, "end": ToldEnd},
        query=EventsQuery,
        headers=(LAST_EVENT_ID,),
        refusals={404: "run not found"},
    )
    async def events(run_id: str) -> EventPage | Response:
        run = await run_seen(backend, run_id)
        query = asked(EventsQuery)
        after = cursor(query)

        def takes(event: Event) -> bool:
            return not query.type or type_of(event) in query.type

        if follows(query):
            return sse_of(run_id, followed(backend, run_id, after, takes))
        return await page(backend, run, after, takes, query.limit)

    @blueprint.get("/<run_id>/graph")
    @access(Access.READ)
    @described(
        "Read what the flow of a run looks like",
        RunGraph,
        refusals={404: "run not found, or graph not known"},
    )
    async def graph(run_id: str) -> RunGraph:
        run = await run_seen(backend, run_id)
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
        return RunGraph(
            run_id=run_id,
            flow_name=run.flow_name,
            source=source,
            nodes=structure.nodes,
            edges=structure.edges,
        )

    @blueprint.get("/<run_id>/workflow")
    @access(Access.READ)
    @described(
        "Read the flow.yaml that a run brought",
        {"application/yaml": {"description": "As it was sent."}},
        refusals={404: "run not found, or workflow not found"},
    )
    async def workflow(run_id: str) -> Response:
        run = await run_seen(backend, run_id)
        digest = run.workflow_yaml_sha256
        text = None if digest is None else await backend.workflows.get(digest)
        if text is None:
            missing = "the run brought no flow.yaml" if digest is None else "it is kept no more"
            raise Problem(
                404, "workflow not found", ErrorId.RUN_NOT_FOUND, run_id=run_id, reason=missing
            )
        return Response(text, content_type="application/yaml; charset=utf-8")

    return blueprint
