"""A run on the terminal while it runs: a live table, or plain lines where nobody watches."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Group, RenderableType
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from pyoco_cli.server.results import OutputLine, PrintedLines
from pyoco_server.model.run import RunSnapshot, RunStatus, TaskRecord, TaskState, shown

_MARKS = {
    TaskState.PENDING: ("·", "dim"),
    TaskState.SUCCEEDED: ("✔", "green"),
    TaskState.FAILED: ("✘", "bold red"),
    TaskState.CANCELLED: ("■", "yellow"),
    TaskState.SKIPPED: ("○", "dim"),
}
_STATUS_STYLES = {
    RunStatus.COMPLETED: "bold green",
    RunStatus.FAILED: "bold red",
    RunStatus.CANCELLED: "bold yellow",
}


class RunProgress:
    """Shows the states of one run as they come; where they are lines, those of its tasks among them.

    Args:
        lines: What tasks print, and where to; it comes sooner than the states of the tasks.
    """

    def __init__(self, lines: PrintedLines) -> None:
        self._console = lines.console
        self._lines = lines
        self._held: list[OutputLine] = []
        self.run_id: str | None = None
        """The run, as soon as it is known."""
        self._snapshot: RunSnapshot | None = None
        self._live: Live | None = None
        self._told: dict[str, str] = {}

    @contextmanager
    def shown(self) -> Iterator[RunProgress]:
        """Draw inside of the block; the last state stays on the screen."""
        if not self._console.is_terminal:
            self._lines.holds = self._hold
            try:
                yield self
            finally:
                self._lines.holds = None
                self._release(None)
            return
        with Live(
            get_renderable=self._render, console=self._console, refresh_per_second=12
        ) as live:
            self._live = live
            yield self
        self._live = None

    def update(self, snapshot: RunSnapshot) -> None:
        """Take in a state of the run."""
        self._snapshot = snapshot = shown(snapshot)
        if self._live is None:
            self._tell_changes(snapshot)

    def _hold(self, line: OutputLine) -> bool:
        """Keep a line of a task back until it is told that the task has started."""
        own = line.task is not None and (self.run_id is None or line.run_id == self.run_id)
        held = own and self._told.get(line.task or "") is None
        if held:
            self._held.append(line)
        return held

    def _release(self, task: str | None) -> None:
        """Print what was kept back of a task, or of all."""
        held, self._held = self._held, []
        for line in held:
            if task in {None, line.task}:
                self._lines.print(line)
            else:
                self._held.append(line)

    def _tell_changes(self, snapshot: RunSnapshot) -> None:
        stamp = time.strftime("%H:%M:%S")
        if snapshot.status.terminal:
            self._lines.end(snapshot.run_id)
        else:
            self._tell_status(snapshot, stamp)
        self._tell_tasks(snapshot, stamp)
        if snapshot.status.terminal:
            self._tell_status(snapshot, stamp)

    def _tell_status(self, snapshot: RunSnapshot, stamp: str) -> None:
        if self._told.get("") != snapshot.status:
            self._told[""] = snapshot.status
            self._tell(f"{stamp} run {snapshot.run_id} {snapshot.status}")

    def _tell_tasks(self, snapshot: RunSnapshot, stamp: str) -> None:
        for name, state in snapshot.tasks.items():
            if self._told.get(name, TaskState.PENDING) != state:
                self._told[name] = state
                if state is not TaskState.RUNNING:  # it had started, and that was not told
                    self._release(name)
                record = snapshot.task_records.get(name)
                ended = record is not None and record.ended_at is not None
                detail = _duration(record) if ended else ""
                self._tell(f"{stamp}   {name} {state} {detail}".rstrip())
                self._release(name)

    def _tell(self, line: str) -> None:
        # Names are from outside: never markup. The terminal breaks what is too long for it.
        self._console.print(Text(line), soft_wrap=True)

    def _render(self) -> RenderableType:
        snapshot = self._snapshot
        if snapshot is None:
            return Spinner("dots", "waiting for the run")
        table = Table.grid(padding=(0, 2))
        for name, state in snapshot.tasks.items():
            mark: RenderableType
            if state is TaskState.RUNNING:
                mark, style = Spinner("dots", style="cyan"), "cyan"
            else:
                symbol, style = _MARKS[state]
                mark = Text(symbol, style)
            record = snapshot.task_records.get(name)
            table.add_row(mark, Text(name, style), Text(state, style), _duration(record))
        head = Text.assemble(
            ("run ", "dim"),
            snapshot.run_id,
            "  ",
            (snapshot.status, _STATUS_STYLES.get(snapshot.status, "cyan")),
        )
        return Group(head, table)


def _duration(record: TaskRecord | None) -> str:
    if record is None or record.started_at is None:
        return ""
    end = record.ended_at if record.ended_at is not None else time.time()
    return f"{max(end - record.started_at, 0):.1f} s"
