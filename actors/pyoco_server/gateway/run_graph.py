"""What the flow of a run looks like: from the flow.yaml that it brought, or as its worker found it."""

from __future__ import annotations

from contextlib import aclosing
from functools import partial
from typing import Literal, TypeAlias

from pyoco_server.gateway.event_reader import EventReader, StoredEvent
from pyoco_server.model.errors import FlowFileError
from pyoco_server.model.event import FlowShape
from pyoco_server.model.flow.file import parse_flow_yaml
from pyoco_server.model.flow.structure import GraphStructure, of_tasks, structure
from pyoco_server.model.run import RunSnapshot
from pyoco_server.store.threads import read_aside
from pyoco_server.store.workflows import WorkflowStore

GraphSource: TypeAlias = Literal["workflow", "run", "tasks"]
"""``tasks``: a worker that tells no structure (0.5.1) executes it; there are nodes, and no edges."""


async def run_graph(
    run: RunSnapshot, workflows: WorkflowStore, events: EventReader
) -> tuple[GraphSource, GraphStructure] | None:
    """Return the graph of a run and where it comes from; None while it is not known.

    Raises:
        BridgeError: NATS could not be asked.
    """
    if run.workflow_yaml_sha256 is not None:
        text = await workflows.get(run.workflow_yaml_sha256)
        if text is not None:
            raw = text.encode()
            try:
                return "workflow", await read_aside(len(raw), partial(_structure, raw))
            except FlowFileError:
                pass  # of another version's making; its worker may have understood it
    ended = run.status.terminal
    async with aclosing(events.stored(run.run_id, ended=ended)) as stored:
        async for item in stored:
            if isinstance(item, StoredEvent) and isinstance(item.event, FlowShape):
                return "run", item.event.structure
    if run.tasks:
        return "tasks", of_tasks(run.tasks)
    return None


def _structure(raw: bytes) -> GraphStructure:
    return structure(parse_flow_yaml(raw, max_bytes=len(raw), accepted=True).graph)
