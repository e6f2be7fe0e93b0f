"""How `pyoco-server status` looks to people."""

from __future__ import annotations

import time

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from pyoco_cli.client.drawing import STYLES, Columns, table
from pyoco_cli.client.views import worker_state
from pyoco_cli.common.output import printable
from pyoco_server.model.counted import counted
from pyoco_server.operations.status import Status


def status_screen(status: Status) -> RenderableType:
    """Everything, for 80 columns and more."""
    head = Table.grid(padding=(0, 2))
    style = "green" if status.gateway.state == "ready" else "red"
    head.add_row(
        Text("gateway", "dim"),
        Text.assemble(printable(status.gateway.url), "  ", (status.gateway.state, style)),
    )
    for reason in status.gateway.reasons:
        head.add_row("", Text(printable(reason), "red"))
    nats = status.nats
    head.add_row(
        Text("NATS", "dim"),
        f"{nats.server}  {nats.version}  {counted(nats.streams, 'stream')}, {nats.bytes / 1e6:.1f} MB",
    )
    for node in nats.lost_nodes:
        head.add_row("", Text(f"node {printable(node)} is lost", "red"))
    head.add_row(Text("runs", "dim"), _runs(status))
    if status.dead_letters:
        head.add_row(
            Text("dead", "dim"), Text(counted(status.dead_letters, "dead letter"), "yellow")
        )
    return Group(head, Text(), _queues(status), Text(), _workers(status))


def _runs(status: Status) -> Text:
    if status.runs is None:
        return Text("too many to count", "dim")
    parts = [
        (f"{count} {printable(name)}  ", STYLES.get(name, ""))
        for name, count in sorted(status.runs.items())
    ]
    return Text.assemble(*parts) if parts else Text("none", "dim")


def _queues(status: Status) -> RenderableType:
    queues = status.queues
    columns: Columns = {
        "tag": [printable(queue.tag) for queue in queues],
        "waiting": [str(queue.waiting) for queue in queues],
        "executing": [str(queue.executing) for queue in queues],
        "workers": [
            Text(str(queue.workers), "red" if queue.waiting and not queue.workers else "")
            for queue in queues
        ],
        "": [Text("paused", "yellow") if queue.paused else "" for queue in queues],
    }
    return table(columns, "no queues")


def _workers(status: Status) -> RenderableType:
    workers, now = status.workers, time.time()
    columns: Columns = {
        "worker": [printable(worker.worker_id) for worker in workers],
        "state": [
            worker_state(
                worker.state,
                paused=worker.paused,
                draining=worker.draining,
                resting=worker.resting,
            )
            for worker in workers
        ],
        "slots": [f"{worker.busy}/{worker.slots}" for worker in workers],
        "tags": [printable(",".join(worker.tags)) for worker in workers],
        "seen": [f"{max(now - worker.last_seen_at, 0):.0f} s ago" for worker in workers],
    }
    return table(columns, "no workers")
