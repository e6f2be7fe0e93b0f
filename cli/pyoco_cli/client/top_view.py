"""How `top` looks: a head line, then queues, workers, actors and as many runs as there is room for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from pyoco_cli.client.drawing import STYLES, styled
from pyoco_cli.client.run_views import progress_cells
from pyoco_cli.client.views import state_of
from pyoco_cli.client.words import age
from pyoco_cli.common.output import printable
from pyoco_server.model.counted import counted

_QUEUES = 5
_WORKERS = 6
_ACTORS = 5
_FIGURES = frozenset(
    {"waiting", "executing", "asking", "busy", "mailbox", "messages", "each", "restarts"}
    | {"seen", "changed"}
)
_REASONS = {
    "no_worker": "no worker there",
    "paused": "workers paused",
    "busy": "workers busy",
}
# Titles of the four tables, blank lines between them, and the head.
_FIXED_LINES = 10


def screen(
    seen: dict[str, Any], server: str, width: int, height: int, trouble: str | None
) -> RenderableType:
    """Draw one look.

    Args:
        seen: What `look` of ``top`` returned.
        server: URL of the gateway.
        width: Columns of the terminal.
        height: Its lines; the drawing has fewer.
        trouble: Why the last look failed, if it did.
    """
    queues = list(seen.get("queues") or [])
    workers = list(seen.get("workers") or [])
    actors = _actors(seen.get("actors"))[:_ACTORS]
    progress = seen.get("progress") or {}
    tables = (queues[:_QUEUES], workers[:_WORKERS], actors)
    taken = sum(max(len(rows), 1) for rows in tables) + sum(map(len, progress.values()))
    room = max(height - _FIXED_LINES - taken, 3)
    return Group(
        _head(seen, server, width, trouble),
        _queue_table(queues),
        Text(),
        _worker_table(workers),
        Text(),
        _actor_table(actors, visible=seen.get("actors") is not None),
        Text(),
        run_table(list(seen.get("runs") or [])[:room], width, progress),
    )


def _head(seen: dict[str, Any], server: str, width: int, trouble: str | None) -> RenderableType:
    counts = seen.get("counts") or {}
    by_status = counts.get("counts", counts)
    parts: list[Any] = [("pyoco ", "bold"), f"{printable(server)}  "]
    parts += [
        (f"{by_status[name]} {name.lower()}  ", STYLES[name])
        for name in ("PENDING", "RUNNING", "CANCELLING", "COMPLETED", "FAILED", "CANCELLED")
        if by_status.get(name)
    ]
    if letters := seen.get("dead_letters"):
        parts.append((counted(letters, "dead letter"), "yellow"))
    if trouble is not None:
        parts = [(f"no answer, showing {age(seen['at'])} ago: {printable(trouble)}", "bold red")]
    line = Text.assemble(*parts, no_wrap=True, overflow="ellipsis")
    line.truncate(width, overflow="ellipsis")
    return line


def _queue_table(queues: Sequence[dict[str, Any]]) -> RenderableType:
    table = _table(_more("queue", queues, _QUEUES), "waiting", "executing", "asking", "why")
    for queue in queues[:_QUEUES]:
        waiting = int(queue.get("pending") or 0)
        why = str(queue.get("waiting_reason") or "")
        nobody = waiting and not queue.get("waiting_pulls") and not queue.get("ack_pending")
        table.add_row(
            printable(queue.get("tag")),
            Text(str(waiting), "red" if nobody else ""),
            str(queue.get("ack_pending")),
            str(queue.get("waiting_pulls")),
            Text(_REASONS.get(why, printable(why)), "" if why == "busy" else "yellow"),
        )
    return table


def _worker_table(workers: Sequence[dict[str, Any]]) -> RenderableType:
    table = _table(_more("worker", workers, _WORKERS), "state", "busy", "tags", "seen")
    for worker in workers[:_WORKERS]:
        slots = worker.get("slots") or []
        busy = sum(slot.get("run_id") is not None for slot in slots)
        table.add_row(
            printable(worker.get("worker_id")),
            state_of(worker),
            f"{busy}/{len(slots) or 1}",
            printable(",".join(map(str, worker.get("tags") or []))),
            f"{age(worker.get('last_seen_at'))} ago",
        )
    return table


def _actors(tree: dict[str, Any] | None) -> list[dict[str, Any]]:
    """Actors with something to tell first: those that crashed, whose mailbox fills, that work most."""
    found: list[dict[str, Any]] = []
    waiting = [tree] if tree else []
    while waiting:
        node = waiting.pop()
        waiting += node.get("children") or []
        if not node.get("children"):
            found.append(node)
    return sorted(
        found,
        key=lambda node: (
            -(node.get("restarts") or 0),
            -(node.get("mailbox_depth") or 0),
            -(node.get("busy_seconds") or 0.0),
        ),
    )


def _actor_table(rows: Sequence[dict[str, Any]], *, visible: bool) -> RenderableType:
    if not visible:
        return Text("actors: this key may not see them", "dim")
    table = _table("actor", "state", "mailbox", "messages", "each", "restarts")
    for node in rows:
        each = node.get("seconds_per_message")
        restarts = int(node.get("restarts") or 0)
        table.add_row(
            printable(node.get("path")),
            printable(node.get("state")),
            str(node.get("mailbox_depth", "-")),
            str(node.get("messages", "-")),
            "-" if each is None else f"{each * 1000:.1f} ms",
            Text(str(restarts), "red" if restarts else ""),
        )
    return table


# Of the id of a run, and with its status and when it changed.
_ID_WIDTH: Final = 36
_RUN_WIDTH: Final = _ID_WIDTH + len("CANCELLING") + len("59 min ago")


def run_table(
    rows: Sequence[Mapping[str, Any]],
    width: int,
    progress: Mapping[str, dict[str, Any]] | None = None,
) -> RenderableType:
    """Draw runs, one a line, with what there is room for in ``width`` columns.

    Args:
        rows: The runs.
        width: Columns of the terminal.
        progress: How far the tasks of some of them are, by run and task; each has a line below its run.
    """
    # The id has to be whole, to be copied; what else there is depends on the room.
    wide = width >= 110
    table = _table("run", "status", "flow", *(("tag", "worker") if wide else ()), "changed")
    # Of columns that are too wide together, rich would shorten all.
    room = width - _RUN_WIDTH - 2 * (len(table.columns) - 1)
    table.columns[0].min_width = _ID_WIDTH
    table.columns[2].max_width = max(room // 2 if wide else room, 4)
    for column in table.columns[3:-1]:
        column.max_width = room // 4
    for run in rows:
        table.add_row(
            printable(run.get("run_id")),
            styled(run.get("status")),
            printable(run.get("flow_name")),
            *((printable(run.get("tag")), printable(run.get("worker_id") or "-")) if wide else ()),
            f"{age(run.get('updated_at'))} ago",
        )
        for task, made in (progress or {}).get(str(run.get("run_id")), {}).items():
            bar, text = progress_cells(made)
            table.add_row(Text(f"  {printable(task)}"), bar, text)
    return table


def _more(title: str, rows: Sequence[object], most: int) -> str:
    return title if len(rows) <= most else f"{title} ({most} of {len(rows)})"


def _table(*headers: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", expand=True)
    for header in headers:
        right = header in _FIGURES
        table.add_column(
            header, no_wrap=True, overflow="ellipsis", justify="right" if right else "left"
        )
    # What a row is about takes the room that there is, so that the rest stands in columns at the edge.
    table.columns[0].ratio = 1
    return table
