"""A whole small installation in one process: NATS, gateway and worker, for `dev` and `demo`."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import trio

from pyoco_cli.server.progress import RunProgress
from pyoco_http.server import serve_http
from pyoco_server.backend import Backend, open_backend
from pyoco_server.gateway.new_run import NewRun
from pyoco_server.model.flow.file import FlowFile
from pyoco_server.model.run import RunSnapshot
from pyoco_server.node import Node
from pyoco_server.settings import Settings
from pyoco_server.worker.tree import WorkerOptions

_READY_SECONDS = 30.0


def usual_or_free(host: str, port: int) -> int:
    """``port``, or 0 (the system takes a free one) where a server could not listen there now."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return 0
        return port


@dataclass(frozen=True)
class LocalSession:
    """What runs.

    Attributes:
        backend: Gateway and worker.
        node: The NATS node.
        url: Base URL of the HTTP API.
    """

    backend: Backend
    node: Node
    url: str


@asynccontextmanager
async def open_session(
    settings: Settings,
    worker: WorkerOptions,
    nats: AbstractAsyncContextManager[Node],
    *,
    host: str,
    port: int,
) -> AsyncIterator[LocalSession]:
    """Run all three for the length of the block.

    Args:
        settings: What to run with; its NATS URL is replaced by that of the node.
        worker: The worker.
        nats: The node.
        host: Where HTTP listens.
        port: Wanted port of the HTTP API; a free one is taken where it is busy.

    Raises:
        ExceptionGroup: Something could not start, or failed for good.
    """
    async with (
        nats as node,
        open_backend(settings.for_node(node.url), worker=worker) as backend,
        trio.open_nursery() as nursery,
    ):
        await backend.wait_ready(within=_READY_SECONDS)
        start = partial(serve_http, backend, host=host, port=usual_or_free(host, port))
        url = await nursery.start(start)
        yield LocalSession(backend, node, url)
        nursery.cancel_scope.cancel()


async def run_flow(
    backend: Backend,
    flow: FlowFile,
    tag: str,
    progress: RunProgress,
    params: Mapping[str, Any] | None = None,
) -> RunSnapshot:
    """Submit a flow and show it until it ends; return its last state. Cancelled, the run goes on."""
    with progress.shown():
        accepted = await backend.submit(NewRun.of_flow(flow, tag=tag, params=params))
        progress.run_id = accepted.run_id
        async with backend.watch(accepted.run_id) as states:
            async for snapshot in states:
                progress.update(snapshot)
                if snapshot.status.terminal:
                    return snapshot
    return await backend.get(accepted.run_id)
