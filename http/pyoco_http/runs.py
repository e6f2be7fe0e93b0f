"""Runs over HTTP: submit, read, watch, cancel."""

from __future__ import annotations

from typing import Any

import msgspec
from quart import Blueprint, request

from pyoco_http.access import Access, access, principal, see
from pyoco_http.flows import read_flow_file
from pyoco_http.problems import Problem
from pyoco_http.views import run_view, tasks_view, wants_records, worker_liveness
from pyoco_server.backend import Backend
from pyoco_server.gateway.submitter import NewRun
from pyoco_server.model.errors import ErrorId
from pyoco_server.model.job import InvalidTag, check_tag, is_run_id
from pyoco_server.store.runs import RunNotFound


class SubmitBody(msgspec.Struct, kw_only=True):
    """The body of `POST /runs`."""

    flow_name: str
    params: dict[str, Any] = msgspec.field(default_factory=dict)
    tag: str | None = None
    tags: list[str] | None = None


def runs_blueprint(backend: Backend) -> Blueprint:
    """The routes below ``/runs`` but the streams."""
    blueprint = Blueprint("runs", __name__, url_prefix="/runs")
    settings = backend.settings

    @blueprint.post("")
    @access(Access.SUBMIT)
    async def submit() -> dict[str, str]:
        body = _decode_body(await request.body)
        tag = _routing_tag(body.tag, settings.default_tag)
        snapshot = await backend.submit(
            NewRun(
                body.flow_name,
                tag,
                tuple(body.tags or [tag]),
                body.params,
                tenant_id=principal().tenant_id,
                api_key_id=principal().key_id,
            )
        )
        return {"run_id": snapshot.run_id, "status": snapshot.status}

    @blueprint.post("/yaml")
    @access(Access.SUBMIT)
    async def submit_yaml() -> dict[str, str]:
        form, files = await request.form, await request.files
        tag = _routing_tag(form.get("tag"), settings.default_tag)
        upload = files.get("workflow")
        if upload is None:
            raise Problem(
                422,
                "invalid workflow yaml",
                ErrorId.INVALID_INPUT,
                field="workflow",
                reason="send the flow.yaml as the multipart file field 'workflow'",
            )
        raw = upload.read(settings.workflow_yaml_max_bytes + 1)
        flow_file = read_flow_file(raw, settings.workflow_yaml_max_bytes)
        flow_name = (form.get("flow_name") or "").strip()
        if not flow_name:
            raise Problem(422, "missing flow_name", ErrorId.INVALID_INPUT, field="flow_name")
        snapshot = await backend.submit(
            NewRun(
                flow_name,
                tag,
                (tag,),
                dict(flow_file.defaults),
                workflow_yaml=flow_file.text,
                workflow_yaml_sha256=flow_file.sha256,
                workflow_yaml_bytes=flow_file.size_bytes,
                tenant_id=principal().tenant_id,
                api_key_id=principal().key_id,
            )
        )
        return {"run_id": snapshot.run_id, "status": snapshot.status}

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


def _decode_body(raw: bytes) -> SubmitBody:
    try:
        body = msgspec.json.decode(raw, type=SubmitBody)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Problem(
            422, f"invalid request body: {error}", ErrorId.INVALID_INPUT, reason=str(error)
        ) from None
    if not body.flow_name.strip():
        raise Problem(422, "missing flow_name", ErrorId.INVALID_INPUT, field="flow_name")
    return body


def _routing_tag(tag: str | None, default: str) -> str:
    chosen = (tag or "").strip() or default
    try:
        return check_tag(chosen)
    except InvalidTag as error:
        raise Problem(
            422, "invalid tag", ErrorId.INVALID_INPUT, field="tag", reason=str(error)
        ) from None
