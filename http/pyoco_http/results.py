"""What the tasks of runs returned, over HTTP."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import partial
from typing import Final

import msgspec
from quart import Blueprint, Response

from pyoco_http.access import Access, access, run_seen
from pyoco_http.call import Answer
from pyoco_http.downloads import download
from pyoco_http.operation import RANGE, described
from pyoco_http.problems import Problem, answer_with
from pyoco_server.api.runs import RunResults
from pyoco_server.backend import Backend
from pyoco_server.model.errors import ErrorId
from pyoco_server.model.json_text import encode_json
from pyoco_server.model.result import Result
from pyoco_server.model.run import RunSnapshot, TaskState
from pyoco_server.store.artifacts import ArtifactNotFound

CUT_HEADER: Final = "Pyoco-Result-Cut"
"""Why the value in the body is not all that the task returned."""


def results_blueprint(backend: Backend) -> Blueprint:
    """The routes below ``/runs/{run_id}/results``."""
    blueprint = Blueprint("results", __name__, url_prefix="/runs")
    answer_with(blueprint, {ArtifactNotFound: _missing})

    @blueprint.get("/<run_id>/results")
    @access(Access.READ)
    @described(
        "List what the tasks of a run returned",
        RunResults,
        refusals={404: "run not found"},
        doc="Of tasks that succeeded, in the order of the run's tasks.",
    )
    async def list_results(run_id: str) -> RunResults:
        run = await run_seen(backend, run_id)
        return RunResults(run_id=run.run_id, results=[result for result, _ in _results(run)])

    @blueprint.get("/<run_id>/results/<path:task>")
    @access(Access.READ)
    @described(
        "Read what a task returned, as JSON",
        {"application/json": {"description": "Any JSON value."}},
        headers=(RANGE,),
        refusals={
            206: "the part that was asked for, of a result that is kept beside the snapshot",
            404: "run not found, or result not found",
            416: "range not satisfiable",
        },
        bodies={206: {"application/json": {"description": "A part of its text."}}},
        doc="`Pyoco-Result-Cut` says why it is not all that the task returned. The name may hold slashes.",
    )
    async def get(run_id: str, task: str) -> Response:
        run = await run_seen(backend, run_id)
        found = next((found for found in _results(run) if found[0].task == task), None)
        if found is None:
            raise ArtifactNotFound(run.run_id, task)
        result, raw = found
        if result.refused is not None:
            raise _missing(ArtifactNotFound(run.run_id, task), result.refused)
        if raw is not None:
            response = Answer(raw).response()
        else:
            result, info = await backend.artifacts.find_result(run, task)
            response = await download(
                partial(backend.artifacts.read, info),
                filename=f"{task.rpartition('/')[2]}.json",
                size=result.size_bytes,
                sha256=result.sha256_hex or "",
                media_type=result.media_type,
            )
        response.headers["ETag"] = f'"{result.sha256_hex}"'
        if result.cut is not None:
            response.headers[CUT_HEADER] = result.cut
        return response

    return blueprint


def _results(run: RunSnapshot) -> Iterator[tuple[Result, bytes | None]]:
    """The results of a run's tasks, and the JSON of those that its snapshot has."""
    beside = {result.task: result for result in run.results}
    for task in dict.fromkeys((*run.tasks, *beside)):
        if task in beside:
            yield beside[task], None
            continue
        record = run.task_records.get(task)
        if record is None or record.state is not TaskState.SUCCEEDED:
            continue
        note = record.result
        value = record.output if note is msgspec.UNSET else note.value
        cut = None if note is msgspec.UNSET else note.cut
        if note is not msgspec.UNSET and value is msgspec.UNSET:
            why = "it was not kept" if run.status.terminal else "it is kept when the run has ended"
            yield Result(task=task, size_bytes=note.size_bytes, cut=cut, refused=why), None
            continue
        raw = encode_json(value)
        digest = hashlib.sha256(raw).hexdigest()
        yield Result(task=task, size_bytes=len(raw), sha256_hex=digest, cut=cut), raw


def _missing(error: ArtifactNotFound, reason: str = "there is none, or not any more") -> Problem:
    detail, task = "result not found", error.name
    return Problem(
        404, detail, ErrorId.RUN_NOT_FOUND, run_id=error.run_id, task=task, reason=reason
    )
