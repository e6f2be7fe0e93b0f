"""Opens a backend: which actors stand in which tree."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec.structs

from pyoco_server.backend.backend import Backend
from pyoco_server.crash_reports.writing import open_crash_reports
from pyoco_server.gateway.tree import GatewayKind, gateway_tree
from pyoco_server.jetstream.connection import ConnectionOptions, open_connection
from pyoco_server.kernel import SupervisorSpec, open_system, task
from pyoco_server.logs import stay_quiet
from pyoco_server.node import open_node
from pyoco_server.settings import Settings, check_variable
from pyoco_server.store.journal import EventWriter
from pyoco_server.store.provisioner import Provisioner
from pyoco_server.store.stores import Stores

if TYPE_CHECKING:
    from pyoco_server.worker.tree import WorkerOptions, WorkerTree

_READY_SECONDS = 60.0
# How often it is looked whether a stream is gone. Workers are many, and a gateway is quicker.
_LOOK_SECONDS = 2.0
_WORKER_LOOK_SECONDS = 10.0


@asynccontextmanager
async def open_backend(
    settings: Settings,
    *,
    nats: Literal["embedded"] | str | None = None,
    gateway: GatewayKind | bool = True,
    worker: WorkerOptions | None = None,
    name: str = "pyoco-server",
) -> AsyncIterator[Backend]:
    """Run the backend for the length of the block, in one supervision tree.

    With a NATS node of its own it is ready when the block is entered. Otherwise it comes up whether NATS
    is there or not, and `Backend.wait_ready` waits for it; the calls of a client wait for it themselves,
    each within its own time. When the block is left, the worker stops taking jobs, lets running ones end
    for ``worker_drain_timeout_sec`` seconds, and gives back the rest. Cancelled, or left by an exception, it
    does not wait for running jobs.

    Args:
        settings: What to run with.
        nats: "embedded" starts a NATS node of its own, with its data in ``embedded`` under
            ``settings.state_dir``, on a free port; a URL connects to it, and None to ``settings.nats_url``.
        gateway: True, or "whole", for all that a gateway does; "client" to submit, watch and cancel runs
            and to read what they printed, while a gateway elsewhere does the rest; False for none.
        worker: The worker to run here, if any.
        name: How the connection calls itself towards NATS.

    Raises:
        NodeFailed: The embedded node does not start, for one because another program has its store; the text
            says why.
        SettingsError: The URL is none of NATS.
        NotReady: It started, and the backend is not ready a minute later; in an exception group.
        ExceptionGroup: Something inside failed for good; the block is cancelled then.
    """
    stay_quiet()
    async with AsyncExitStack() as stack:
        node = None
        reached = settings
        if nats == "embedded":
            # Not that of `up` and `dev` in the same folder, whose node may run.
            store = Path(settings.state_dir) / "embedded"
            node = await stack.enter_async_context(open_node(store_dir=store, port=0))
            reached = settings.for_node(node.url)
        elif nats is not None:
            settings = reached = msgspec.structs.replace(settings, nats_url=nats)
        check_variable(Settings, "nats_url", reached.nats_url)
        options = ConnectionOptions.of(reached, name=name)
        connection = await stack.enter_async_context(open_connection(options))
        stores = Stores.of(connection, settings)
        look_seconds = _LOOK_SECONDS if gateway else _WORKER_LOOK_SECONDS
        provisioner = Provisioner(connection, settings, stores.workflows, look_seconds)
        events = EventWriter(connection, stores.journal, settings.events_subject_prefix)
        kind: GatewayKind | None = (
            ("whole" if gateway else None) if isinstance(gateway, bool) else gateway
        )
        gateway_part = None if kind is None else gateway_tree(connection, settings, stores, kind)
        worker_part: WorkerTree | None = None
        if worker:
            # A gateway need not wait for a worker's modules.
            from pyoco_server.worker.tree import worker_tree  # noqa: PLC0415

            worker_part = worker_tree(connection, settings, worker, stores)
            stack.callback(worker_part.name.let_go)
        parts = [part.spec for part in (gateway_part, worker_part) if part is not None]
        always = [
            task("provisioner", provisioner.keep),
            task("events", events.write, close=events.close),
        ]
        root = SupervisorSpec("root", [*always, *parts])
        reports = settings.crash_reports_dir
        tap = (
            await stack.enter_async_context(open_crash_reports(Path(reports))) if reports else None
        )
        system = await stack.enter_async_context(open_system(root, tap=tap))
        backend = Backend(
            settings, connection, system, stores, provisioner, gateway_part, worker_part, node
        )
        if node is not None:
            await backend.wait_ready(within=_READY_SECONDS)
        yield backend
        if worker_part is not None:
            await backend.drain(within=settings.worker_drain_timeout_sec)
