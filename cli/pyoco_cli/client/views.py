"""How people see runs, workers and wheels: rich renderings of the API's documents.

Texts come from users and workers, so each of them goes through ``printable``.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.json import JSON
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from pyoco_cli.client.progress import progress_text
from pyoco_cli.common.output import on_terminal, printable
from pyoco_server.model.counted import counted

STYLES = {
    "PENDING": "dim",
    "SCHEDULED": "dim",
    "RUNNING": "cyan",
    "COMPLETED": "green",
    "SUCCEEDED": "green",
    "FAILED": "red",
    "EXPIRED": "red",
    "CANCELLING": "yellow",
    "CANCELLED": "yellow",
    "SKIPPED": "dim",
    "IDLE": "green",
    "STOPPED_GRACEFUL": "dim",
    "DISCONNECTED": "red",
}
_BAR_COLUMNS = 20


def submitted(answer: dict[str, Any]) -> RenderableType:
    """A run that was just taken."""
    due = answer.get("scheduled_for") if answer.get("state") == "SCHEDULED" else None
    return Text.assemble(
        ("submitted ", "dim"),
        _text(answer.get("run_id")),
        "  ",
        _state(answer),
        f" for {moment(due)}" if due else "",
    )


def run_panel(snapshot: dict[str, Any]) -> RenderableType:
    """One run, with its tasks."""
    facts = _facts(
        ("flow", snapshot.get("flow_name")),
        ("tag", snapshot.get("tag")),
        ("worker", snapshot.get("worker_id")),
        ("started", moment(snapshot.get("start_time"))),
        ("took", _span(snapshot.get("start_time"), snapshot.get("end_time"))),
        ("changed", moment(snapshot.get("updated_at"))),
        ("attempt", _attempt(snapshot)),
        ("took of the machine", _usage(snapshot.get("usage") or {})),
        ("limits", _limits(snapshot)),
        ("next attempt", moment(snapshot.get("next_attempt_at"))),
        ("scheduled for", moment(snapshot.get("scheduled_for"))),
        ("expires", moment(snapshot.get("expires_at"))),
        ("cancel reason", snapshot.get("cancel_reason")),
        ("wheels", _wheels(snapshot)),
        ("artifacts", len(snapshot.get("artifacts") or []) or None),
        ("reason", snapshot.get("reason")),
        ("failed tasks", ", ".join(snapshot.get("failed_tasks") or []) or None),
        ("error", snapshot.get("error")),
    )
    parts: list[RenderableType] = [facts]
    if snapshot.get("params"):
        parts += [Text("params", "dim"), JSON.from_data(snapshot["params"], ensure_ascii=False)]
    if snapshot.get("tasks"):
        parts.append(tasks_table(snapshot))
        parts += _tracebacks(snapshot)
    if snapshot.get("attempts"):
        parts.append(_attempts_table(snapshot["attempts"]))
    title = Text.assemble(_text(snapshot.get("run_id")), "  ", _state(snapshot))
    return Panel(Group(*parts), title=title, title_align="left", expand=on_terminal())


def _wheels(snapshot: dict[str, Any]) -> str | None:
    wheels = snapshot.get("wheels") or []
    return ", ".join(f"{wheel.get('name')} {wheel.get('version')}" for wheel in wheels) or None


def _attempt(snapshot: dict[str, Any]) -> str:
    most = snapshot.get("max_attempts")
    number = snapshot.get("attempt") or 0
    return f"{number} of {most}" if most is not None else str(number) if number > 1 else ""


def _memory(usage: dict[str, Any]) -> str:
    peak = usage.get("peak_memory_bytes")
    return "" if peak is None else f"{peak / 1024**2:.0f} MB"


def _processor(usage: dict[str, Any]) -> str:
    taken = usage.get("cpu_sec")
    return "" if taken is None else f"{taken:.2f} s"


def _usage(usage: dict[str, Any]) -> str:
    parts = (_memory(usage) + " of memory", _processor(usage) + " of processor time")
    return ", ".join(part for part in parts if not part.startswith(" "))


def _limits(snapshot: dict[str, Any]) -> str:
    """What an attempt may take."""
    units = {"timeout_sec": "s", "memory_mb": "MB of memory", "cpu_sec": "s of processor time"}
    given = {name: snapshot.get(name) for name in units}
    return ", ".join(f"{value:g} {units[name]}" for name, value in given.items() if value)


def _attempts_table(attempts: Sequence[dict[str, Any]]) -> RenderableType:
    """The attempts before the present one."""
    table = _table("attempt", "worker", "took", "memory", "processor", "reason", "error")
    for attempt in attempts:
        table.add_row(
            _text(attempt.get("attempt")),
            _text(attempt.get("worker_id")),
            _text(_span(attempt.get("started_at"), attempt.get("ended_at")) or ""),
            _text(_memory(attempt)),
            _text(_processor(attempt)),
            _text(attempt.get("reason") or ""),
            _text(attempt.get("error") or "", longest=60),
        )
    return table


def progress_cells(progress: Mapping[str, Any]) -> tuple[RenderableType, RenderableType]:
    """How far a task is: a bar, where it told of how much there is to do, and the same in words."""
    total, done = progress.get("total"), progress.get("done") or 0
    bar: RenderableType = Text()
    if total and total > 0:
        bar = ProgressBar(total=total, completed=min(max(done, 0), total), width=_BAR_COLUMNS)
    return bar, Text(progress_text(progress))


def tasks_view(run: dict[str, Any]) -> RenderableType:
    """The tasks of a run, and where those that failed did."""
    return Group(tasks_table(run), *_tracebacks(run))


def _tracebacks(run: dict[str, Any]) -> list[RenderableType]:
    return [
        Text.assemble((f"\n{printable(name)}\n", "bold"), printable(where).rstrip())
        for name, record in (run.get("task_records") or {}).items()
        if record.get("state") == "FAILED" and (where := _where(record))
    ]


def _where(record: dict[str, Any]) -> str:
    """Where a task failed: in which line of its code, and at which times in a loop."""
    failed = [
        f"{times.get('path')}: {times.get('error')}"
        for times in record.get("iterations") or []
        if times.get("state") == "FAILED" and times.get("error")
    ]
    return "\n".join([*failed, record.get("traceback") or ""]).rstrip()


def tasks_table(run: dict[str, Any]) -> RenderableType:
    """The tasks of a run."""
    records = run.get("task_records") or {}
    tried = any(
        record.get("tries") or record.get("iteration_counts") for record in records.values()
    )
    columns = ("took", *(("tries",) if tried else ()), "result") if records else ()
    table = _table("task", "state", *columns)
    for name, state in (run.get("tasks") or {}).items():
        record = records.get(name) or {}
        took = record.get("duration_ms")
        # Of values beyond JSON, their form says more than their repr.
        output = (record.get("result") or {}).get("value", record.get("output"))
        progress = record.get("progress") if state == "RUNNING" else None
        result = progress_text(progress) if progress else record.get("error") or output
        more = (
            "" if took is None else f"{took / 1000:.2f} s",
            *((_tries(record),) if tried else ()),
            _text("" if result is None else result, longest=200),
        )
        table.add_row(_text(name), _styled(state), *(more if records else ()))
    return table


def _tries(record: dict[str, Any]) -> str:
    """How often a task was tried, or how its times in a loop ended."""
    counts = record.get("iteration_counts") or {}
    tries = record.get("tries") or []
    parts = [f"{count} {state}" for state, count in counts.items()]
    if tries:
        parts.append(counted(int(tries[-1].get("number") or len(tries)), "try", "tries"))
    return ", ".join(parts)


def runs_table(runs: Sequence[Mapping[str, Any]]) -> RenderableType:
    """Runs, one a line."""
    columns = {
        "run": [_text(run.get("run_id")) for run in runs],
        "status": [_state(run) for run in runs],
        "changed": [Text(f"{age(run.get('updated_at'))} ago") for run in runs],
        "flow": [_first_line(run.get("flow_name")) for run in runs],
        "worker": [_first_line(run.get("worker_id")) for run in runs],
        "tag": [_first_line(run.get("tag")) for run in runs],
        "error": [_first_line(run.get("error") or _failed_tasks(run)) for run in runs],
    }
    return Fitted(columns, spare=("worker", "tag")) if runs else Text("(no runs)", "dim")


def _failed_tasks(run: Mapping[str, Any]) -> str:
    failed = run.get("failed_tasks") or []
    return f"failed tasks: {', '.join(failed)}" if failed else ""


def cells_table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> RenderableType:
    """The columns of a plain table, drawn for people."""
    table = _table(*headers)
    for row in rows:
        table.add_row(*(_styled(cell) if cell in STYLES else _text(cell) for cell in row))
    return _or_none(table, "no items")


def workers_table(workers: Sequence[dict[str, Any]]) -> RenderableType:
    """Workers, one a line."""
    table = _listing("worker", "state", "seen", "run", "last run", "tags")
    for worker in workers:
        table.add_row(
            _text(worker.get("worker_id")),
            state_of(worker),
            f"{age(worker.get('last_seen_at'))} ago",
            _text(worker.get("current_run_id") or ""),
            _styled(worker.get("last_run_status") or ""),
            _line(",".join(map(str, worker.get("tags") or []))),
        )
    return Group(_or_none(table, "no workers"), *_orders(workers))


def ordered(answer: dict[str, Any]) -> RenderableType:
    """What a worker was told just now."""
    order = (
        "drains" if answer.get("draining") else "is paused" if answer.get("paused") else "goes on"
    )
    return Text.assemble(("worker ", "dim"), _text(answer.get("worker_id")), f" {order}")


def stopped(answer: dict[str, Any]) -> RenderableType:
    """A worker that was waited for."""
    return Text.assemble(("worker ", "dim"), _text(answer.get("worker_id")), " has stopped")


def _orders(workers: Iterable[dict[str, Any]]) -> Iterable[Text]:
    """By whom workers were told not to work, and why."""
    for worker in workers:
        order = "draining" if worker.get("draining") else "paused" if worker.get("paused") else None
        if order is None or worker.get("ordered_at") is None:
            continue
        by, why = worker.get("ordered_by"), worker.get("order_reason")
        said = [f"{order} {age(worker['ordered_at'])} ago", f"by {by}" if by else "", why or ""]
        line = f"{worker.get('worker_id')}: {', '.join(part for part in said if part)}"
        yield Text(printable(line), "yellow")


_DELETED = {"schedule_id": "schedule", "name": "wheel", "seq": "dead letter"}


def gone(answer: dict[str, Any]) -> RenderableType:
    """Something that was deleted just now."""
    name, what = next((each for each in _DELETED.items() if each[0] in answer), ("", ""))
    return Text.assemble((f"deleted {what} ", "dim"), _text(answer.get(name)))


def state_of(worker: dict[str, Any]) -> Text:
    """The state of a worker, what an operator told it, and whether a slot of it takes no runs by itself."""
    paused, draining = bool(worker.get("paused")), bool(worker.get("draining"))
    resting = any(slot.get("resting") for slot in worker.get("slots") or [])
    return worker_state(str(worker.get("state")), paused=paused, draining=draining, resting=resting)


def worker_state(state: str, *, paused: bool, draining: bool, resting: bool = False) -> Text:
    """The same of its parts; nothing is told of a worker that has gone."""
    order = "draining" if draining else "paused" if paused else "resting" if resting else None
    if order is None or state not in {"RUNNING", "IDLE"}:
        return _styled(state)
    return Text.assemble(_styled(state), " ", (order, "yellow"))


def wheels_table(wheels: Sequence[dict[str, Any]]) -> RenderableType:
    """Wheels, one a line."""
    owned = len({wheel.get("tenant_id") for wheel in wheels}) > 1
    table = _listing("wheel", "bytes", "changed", "tags", *(("tenant",) if owned else ()))
    for wheel in wheels:
        table.add_row(
            _text(wheel.get("name")),
            _text(wheel.get("size_bytes")),
            f"{age(wheel.get('mtime'))} ago",
            _line(",".join(map(str, wheel.get("tags") or [])) or "(all workers)"),
            *((_line(wheel.get("tenant_id") or "(all tenants)"),) if owned else ()),
        )
    return _or_none(table, "no wheels")


def uploaded(wheel: dict[str, Any]) -> RenderableType:
    """A wheel that was uploaded just now."""
    tags = ", ".join(map(str, wheel.get("tags") or []))
    return Text.assemble(
        ("uploaded ", "dim"),
        _text(wheel.get("name")),
        (f" for {f'workers with the tags {printable(tags)}' if tags else 'all workers'}", "dim"),
    )


def built(wheel: dict[str, Any]) -> RenderableType:
    """A wheel that was built just now, and what was brought along."""
    names = "".join(f"\nbrought {name}" for name in wheel.get("dependencies") or [])
    return Text.assemble(("built ", "dim"), _text(wheel.get("path")), (printable(names), "dim"))


def artifacts_table(listing: dict[str, Any]) -> RenderableType:
    """What a run saved, one a line; then what was not kept."""
    table = _listing("artifact", "bytes", "task", "sha256")
    for artifact in listing.get("artifacts") or []:
        table.add_row(
            _text(artifact.get("name")),
            _text(artifact.get("size_bytes")),
            _line(artifact.get("task") or ""),
            _line(artifact.get("sha256_hex")),
        )
    parts: list[RenderableType] = [_or_none(table, "no artifacts")]
    for refused in listing.get("artifacts_refused") or []:
        said = f"not kept: {refused.get('name')}: {refused.get('reason')}"
        parts.append(Text(printable(said), "yellow"))
    return Group(*parts)


def fetched(files: Sequence[dict[str, Any]]) -> RenderableType:
    """Artifacts that were fetched just now."""
    lines = [Text.assemble(("fetched ", "dim"), _text(file.get("path"))) for file in files]
    return Group(*lines) if lines else Text("(no artifacts)", "dim")


def results_table(listing: dict[str, Any]) -> RenderableType:
    """What the tasks of a run returned, one a line; then what is not all of it, or was not kept."""
    table = _listing("task", "bytes", "kind", "sha256")
    said: list[RenderableType] = []
    for result in listing.get("results") or []:
        table.add_row(
            _text(result.get("task")),
            _text(result.get("size_bytes")),
            _text(result.get("media_type")),
            _line(result.get("sha256_hex") or ""),
        )
        for what, why in (("not kept", result.get("refused")), ("cut", result.get("cut"))):
            if why:
                said.append(Text(printable(f"{what}: {result.get('task')}: {why}"), "yellow"))
    return Group(_or_none(table, "no results"), *said)


def history_table(events: Sequence[dict[str, Any]]) -> RenderableType:
    """What was done to wheels, one a line."""
    table = _listing("when", "action", "wheel", "tags", "by")
    for event in events:
        actor = event.get("actor") or {}
        source = event.get("source") or {}
        table.add_row(
            moment(event.get("occurred_at")),
            _text(event.get("action")),
            _text(event.get("wheel_name")),
            _line(",".join(map(str, event.get("tags") or []))),
            _line(actor.get("api_key_id") or source.get("remote_addr") or ""),
        )
    return _or_none(table, "no events")


def letters_page(page: dict[str, Any]) -> RenderableType:
    """Dead letters, one a line, and where the next page starts."""
    letters = page["items"]
    columns = {
        "seq": [_text(letter.get("seq")) for letter in letters],
        "reason": [_text(letter.get("reason")) for letter in letters],
        "age": [Text(age(letter.get("timestamp"))) for letter in letters],
        "run": [_text(letter.get("run_id")) for letter in letters],
        "flow": [_first_line(letter.get("flow_name")) for letter in letters],
        "error": [_first_line(letter.get("error") or "") for letter in letters],
    }
    return _with_cursor(Fitted(columns) if letters else Text("(no dead letters)", "dim"), page)


def letter(found: dict[str, Any]) -> RenderableType:
    """A dead letter; ``found`` also has the ``task_records`` of its run, where they are kept."""
    facts = _facts(
        ("run", found.get("run_id")),
        ("flow", found.get("flow_name")),
        ("tag", found.get("tag")),
        ("worker", found.get("worker_id")),
        ("written", moment(found.get("timestamp"))),
        ("deliveries", found.get("num_delivered")),
        ("subject", found.get("subject")),
        ("error", found.get("error")),
        ("message", found.get("payload")),
    )
    parts: list[RenderableType] = [facts]
    if found.get("params"):
        parts += [Text("params", "dim"), JSON.from_data(found["params"], ensure_ascii=False)]
    parts += _tracebacks(found)
    title = Text.assemble(
        "dead letter ", _text(found.get("seq")), "  ", (_text(found.get("reason")).plain, "red")
    )
    return Panel(Group(*parts), title=title, title_align="left", expand=on_terminal())


def keys_table(keys: Sequence[dict[str, Any]]) -> RenderableType:
    """API keys, one a line."""
    table = _table("key", "tenant", "roles", "made", "ends", "state")
    now = time.time()
    for key in keys:
        ends, revoked = key.get("expires_at"), key.get("revoked_at")
        state = "revoked" if revoked else "expired" if ends and ends <= now else "valid"
        table.add_row(
            _text(key.get("key_id")),
            _text(key.get("tenant_id")),
            _text(", ".join(key.get("roles") or []) or "(reads only)"),
            f"{age(key.get('created_at'))} ago",
            moment(ends) or "never",
            Text(state, "green" if state == "valid" else "dim"),
        )
    return _or_none(table, "no keys")


def key_panel(key: dict[str, Any]) -> RenderableType:
    """A key that was made just now, with its text."""
    facts = _facts(
        ("key", key.get("key_id")),
        ("tenant", key.get("tenant_id")),
        ("roles", ", ".join(key.get("roles") or []) or "(reads only)"),
        ("ends", moment(key.get("expires_at")) or "never"),
    )
    # In a line of its own, and whole, to be copied.
    text = Text(printable(key.get("api_key")), "bold", no_wrap=True, overflow="ignore")
    return Group(facts, Text("its text, shown this once:", "dim"), text)


def document(value: Any) -> RenderableType:
    """Any JSON document, indented and coloured."""
    return JSON.from_data(value, ensure_ascii=False)


def moment(value: object) -> str:
    """A point in time (unix seconds, or text as it is) in local time."""
    if not isinstance(value, (int, float)):
        return printable("" if value is None else value)
    try:
        return datetime.fromtimestamp(value).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    except (ValueError, OverflowError, OSError):
        return printable(value)


def age(value: object) -> str:
    """How long ago a point in time (unix seconds, or ISO 8601) is, in one unit."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value).timestamp()
        except ValueError:
            return "-"
    if not isinstance(value, (int, float)):
        return "-"
    seconds = max(time.time() - value, 0.0)
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def _span(start: object, end: object) -> str | None:
    if not isinstance(start, (int, float)):
        return None
    until = end if isinstance(end, (int, float)) else time.time()
    return f"{max(0.0, until - start):.1f} s"


def _facts(*facts: tuple[str, object]) -> Table:
    grid = Table.grid(padding=(0, 2))
    for name, value in facts:
        if value not in (None, ""):
            grid.add_row(Text(name, "dim"), _text(value))
    return grid


def _table(*headers: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for header in headers:
        table.add_column(Text(header), overflow="fold")
    return table


_GAP = 2
_LEAST_REST = 12


class Fitted:
    """A table that leaves out what there is no room for, rather than to cut what people copy.

    A ``flow`` goes on in the next line where it is too long.

    Args:
        columns: The cells of each column by its head, in the order of the columns.
        spare: Those that are there if there is room for them, in this order.
        rest: The one that takes the room that is left, cut where it is too long, and is absent where that is
            next to none.
    """

    def __init__(
        self,
        columns: Mapping[str, Sequence[Text]],
        *,
        spare: Sequence[str] = (),
        rest: str = "error",
    ) -> None:
        self._columns = columns
        self._spare = spare
        self._rest = rest

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        widths = {
            head: max(len(head), *(cell.cell_len for cell in cells))
            for head, cells in self._columns.items()
        }
        shown = set(widths) - {*self._spare, self._rest}
        room = options.max_width - sum(widths[head] + _GAP for head in shown) + _GAP
        for head in self._spare:
            if widths[head] + _GAP <= room:
                shown.add(head)
                room -= widths[head] + _GAP
        rest = room - _GAP
        if rest >= min(widths[self._rest], _LEAST_REST):
            shown.add(self._rest)
        table = Table(box=None, pad_edge=False, header_style="bold")
        heads = [head for head in self._columns if head in shown]
        for head in heads:
            may_be_cut, may_be_folded = head == self._rest, head == "flow"
            table.add_column(
                head,
                no_wrap=not may_be_folded,
                overflow="fold" if may_be_folded else "ellipsis",
                min_width=None if may_be_cut or may_be_folded else widths[head],
                # Of columns that are too wide together, rich would shorten all.
                max_width=rest if may_be_cut else None,
            )
        for row in zip(*(self._columns[head] for head in heads), strict=True):
            table.add_row(*row)
        yield table


# What gives way where a line is short: the rest can be copied.
_SHORTENED = frozenset({"flow", "tag", "tags", "error", "task", "sha256", "by"})


def _listing(*headers: str) -> Table:
    """A table with one line a row, whose `_line` cells are cut where there is no room."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for header in headers:
        table.add_column(
            Text(header, no_wrap=True, overflow="ellipsis"),
            no_wrap=header not in _SHORTENED,
            overflow="ellipsis",
        )
    return table


def _first_line(value: object) -> Text:
    return Text(_text(value).plain.partition("\n")[0])


def _line(value: object) -> Text:
    """The first line of a text, cut where there is no room."""
    return Text(_first_line(value).plain, no_wrap=True, overflow="ellipsis")


def _with_cursor(table: RenderableType, page: dict[str, Any]) -> RenderableType:
    cursor = page.get("next_cursor")
    return Group(table, Text(f"next_cursor: {printable(cursor)}", "dim")) if cursor else table


def _or_none(table: Table, text: str) -> RenderableType:
    return table if table.row_count else Text(f"({text})", "dim")


def _state(run: Mapping[str, Any]) -> Text:
    state = _styled(run.get("state") or run.get("status"))
    late = [what for what, is_so in (run.get("late") or {}).items() if is_so]
    return Text.assemble(state, (f" late {'+'.join(late)}", "yellow")) if late else state


def _styled(state: object) -> Text:
    return Text(printable(state), STYLES.get(str(state), ""))


def _text(value: object, longest: int = 2000) -> Text:
    text = printable("-" if value is None else value)
    return Text(text if len(text) <= longest else f"{text[: longest - 1]}…")
