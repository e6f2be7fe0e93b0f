"""How `pyoco-server status` looks to people."""

from __future__ import annotations

import time

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from pyoco_cli.client.views import STYLES, worker_state
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
    table = _table("tag", "waiting", "executing", "workers", "")
    for queue in status.queues:
        table.add_row(
            printable(queue.tag),
            str(queue.waiting),
            str(queue.executing),
            Text(str(queue.workers), "red" if queue.waiting and not queue.workers else ""),
            Text("paused", "yellow") if queue.paused else "",
        )
    return table if table.row_count else Text("(no queues)", "dim")


def _workers(status: Status) -> RenderableType:
    table = _table("worker", "state", "slots", "tags", "seen")
    now = time.time()
    for worker in status.workers:
        table.add_row(
            printable(worker.worker_id),
            worker_state(
                worker.state,
                paused=worker.paused,
                draining=worker.draining,
                resting=worker.resting,
            ),
            f"{worker.busy}/{worker.slots}",
            printable(",".join(worker.tags)),
            f"{max(now - worker.last_seen_at, 0):.0f} s ago",
        )
    return table if table.row_count else Text("(no workers)", "dim")


def _table(*headers: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for header in headers:
        table.add_column(header, overflow="fold")
    return table
