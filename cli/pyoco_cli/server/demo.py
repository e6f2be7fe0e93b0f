"""`pyoco-server demo`: a bundled flow, from nothing to its result in seconds."""

from __future__ import annotations

import tempfile
from importlib.resources import files
from pathlib import Path

import trio
import typer
from msgspec.structs import replace
from rich.console import Console

from pyoco_cli.configuration import start_failure
from pyoco_cli.server.nats import operator_settings
from pyoco_cli.server.progress import RunProgress
from pyoco_cli.server.results import PrintedLines, print_result
from pyoco_cli.server.session import open_session, run_flow
from pyoco_cli.signals import stop_signals
from pyoco_http.server import PortBusy
from pyoco_server.model.flow.file import parse_flow_yaml
from pyoco_server.model.run import RunStatus
from pyoco_server.node import NodeFailed, open_node
from pyoco_server.settings import Settings
from pyoco_server.worker.tree import WorkerOptions

_TAG = "demo"


def demo() -> None:
    """Start NATS, a gateway and a worker, run a small flow, show its result, stop everything.

    Exits with 0 when the run COMPLETED. Leaves nothing behind.
    """
    settings = operator_settings()
    console = Console()
    with tempfile.TemporaryDirectory(prefix="pyoco-demo-") as folder:
        raise typer.Exit(trio.run(_demo, replace(settings, state_dir=folder), console))


async def _demo(settings: Settings, console: Console) -> int:
    raw = files("pyoco_server").joinpath("demo_flow", "flow.yaml").read_bytes()
    flow = parse_flow_yaml(raw, max_bytes=settings.workflow_yaml_max_bytes)

    lines = PrintedLines(console)
    worker = WorkerOptions(
        tags=(_TAG,), worker_id="demo", output=lambda output, _: lines.take(output)
    )
    node = open_node(store_dir=Path(settings.state_dir) / "nats")
    completed = False
    try:
        async with (
            stop_signals() as stop,
            open_session(settings, worker, node, host="127.0.0.1", port=0) as session,
            stop.nursery(),
        ):
            console.print(
                f"NATS {session.node.url} · gateway {session.url} · all up\n",
                highlight=False,
            )
            snapshot = await run_flow(session.backend, flow, _TAG, RunProgress(lines))
            print_result(console, snapshot)
            completed = snapshot.status is RunStatus.COMPLETED
    except* (PortBusy, NodeFailed) as group:
        raise start_failure(group, "those of the demo are free ones") from None
    if not completed:
        return stop.exit_code or 1
    console.print(
        "\nNext: [bold]pyoco-server init[/bold] writes a flow to begin with, "
        "[bold]pyoco-server dev flow.yaml[/bold] runs it.",
        soft_wrap=True,
    )
    return 0
