"""Looks at a flow.yaml without running it."""

from __future__ import annotations

from functools import partial

import msgspec
from quart import Blueprint, request

from pyoco_http.access import Access, access
from pyoco_http.operation import described
from pyoco_http.problems import Problem
from pyoco_server.api.system import CheckedFlow
from pyoco_server.backend import Backend
from pyoco_server.model.errors import ErrorId, FlowFileError
from pyoco_server.model.flow.check import check_flow_file, findings_of
from pyoco_server.model.flow.file import FlowFile, WorkflowTooLarge, parse_flow_yaml
from pyoco_server.model.flow.structure import structure
from pyoco_server.settings import Settings
from pyoco_server.store.threads import read_aside


def flows_blueprint(backend: Backend) -> Blueprint:
    """`POST /flows/check`."""
    blueprint = Blueprint("flows", __name__, url_prefix="/flows")
    settings = backend.settings

    @blueprint.post("/check")
    @access(Access.READ)
    @described(
        "Look at a flow.yaml without running it",
        CheckedFlow,
        body={"text/plain": {"type": "string", "format": "flow-yaml"}},
        refusals={422: "invalid workflow yaml"},
    )
    async def check() -> CheckedFlow:
        raw: bytes = await request.body
        return await read_aside(len(raw), partial(_checked, raw, settings))

    return blueprint


def _checked(raw: bytes, settings: Settings) -> CheckedFlow:
    flow_file = read_flow_file(raw, settings)
    return CheckedFlow(
        graph=structure(flow_file.graph),
        defaults=flow_file.defaults,
        tasks=flow_file.tasks,
        unlisted=list(flow_file.graph.unlisted),
        sha256=flow_file.sha256,
        bytes=flow_file.size_bytes,
        findings=list(findings_of(flow_file)),
    )


def read_flow_file(raw: bytes, settings: Settings) -> FlowFile:
    """Read a flow.yaml that came with a call.

    Raises:
        Problem: It is too large, cannot be understood, or names what it may not; line and column say where.
    """
    max_bytes, callables = settings.workflow_yaml_max_bytes, settings.callables
    try:
        return parse_flow_yaml(raw, max_bytes=max_bytes, callables=callables)
    except WorkflowTooLarge as error:
        raise Problem(
            413, "workflow too large", ErrorId.WORKFLOW_TOO_LARGE, reason=str(error)
        ) from None
    except FlowFileError as error:
        raise Problem(
            422,
            "invalid workflow yaml",
            ErrorId.INVALID_INPUT,
            reason=str(error),
            line=error.line,
            column=error.column,
            findings=msgspec.to_builtins(
                check_flow_file(raw, max_bytes=max_bytes, callables=callables).findings
            ),
        ) from None
