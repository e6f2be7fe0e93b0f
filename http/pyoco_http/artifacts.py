"""What runs saved, over HTTP."""

from __future__ import annotations

from functools import partial

from quart import Blueprint, Response

from pyoco_http.access import Access, access, run_seen
from pyoco_http.downloads import download
from pyoco_http.operation import BYTES, RANGE, described
from pyoco_http.problems import Problem, answer_with
from pyoco_server.api.runs import RunArtifacts
from pyoco_server.backend import Backend
from pyoco_server.model.errors import ErrorId
from pyoco_server.store.artifacts import ArtifactNotFound


def artifacts_blueprint(backend: Backend) -> Blueprint:
    """The routes below ``/runs/{run_id}/artifacts``."""
    blueprint = Blueprint("artifacts", __name__, url_prefix="/runs")
    answer_with(blueprint, {ArtifactNotFound: _missing})

    @blueprint.get("/<run_id>/artifacts")
    @access(Access.READ)
    @described("List the files that a run saved", RunArtifacts, refusals={404: "run not found"})
    async def list_artifacts(run_id: str) -> RunArtifacts:
        run = await run_seen(backend, run_id)
        return RunArtifacts(
            run_id=run.run_id,
            artifacts=run.artifacts,
            artifacts_refused=run.artifacts_refused,
        )

    @blueprint.get("/<run_id>/artifacts/<path:name>")
    @access(Access.READ)
    @described(
        "Download a file that a run saved, or a part of it",
        BYTES,
        headers=(RANGE,),
        refusals={
            206: "the part that was asked for",
            404: "run not found, or artifact not found",
            416: "range not satisfiable",
        },
        bodies={206: BYTES},
        doc="The name may hold slashes.",
    )
    async def get(run_id: str, name: str) -> Response:
        run = await run_seen(backend, run_id)
        artifact, info = await backend.artifacts.find(run, name)
        return await download(
            partial(backend.artifacts.read, info),
            filename=name.rpartition("/")[2],
            size=artifact.size_bytes,
            sha256=artifact.sha256_hex,
        )

    return blueprint


def _missing(error: ArtifactNotFound) -> Problem:
    detail, name = "artifact not found", error.name
    return Problem(404, detail, ErrorId.RUN_NOT_FOUND, run_id=error.run_id, name=name)
