"""How a run that ended is told on the terminal, which breaks lines that are too long for it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace

import msgspec
from rich.console import Console
from rich.text import Text

from pyoco_cli.common.output import printable
from pyoco_server.model.run import RunSnapshot, RunStatus
from pyoco_server.worker.runner.handle import LAST_WORDS
from pyoco_server.worker.runner.protocol import Output


@dataclass(frozen=True)
class OutputLine:
    """A line that was printed in a run, or in none."""

    run_id: str | None
    task: str | None
    stream: str
    text: str


class PrintedLines:
    """What tasks print, line by line, each with the task's name before it; parts of a line are joined.

    Args:
        console: Where to print.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self._begun: dict[tuple[str | None, str | None, str], str] = {}
        self.holds: Callable[[OutputLine], bool] | None = None
        """Asked for each line whether it is kept back, to be printed later with `print`."""

    def take(self, output: Output) -> None:
        """Print the lines that a piece of output completes."""
        key = (output.run_id, output.task, output.stream)
        *lines, begun = (self._begun.pop(key, "") + output.text).split("\n")
        if begun:
            self._begun[key] = begun
        for line in lines:
            self._complete(OutputLine(*key, line))

    def end(self, run_id: str | None) -> None:
        """Print what was begun in a run and will not be completed."""
        for key in [key for key in self._begun if key[0] == run_id]:
            self._complete(OutputLine(*key, self._begun.pop(key)))

    def print(self, line: OutputLine) -> None:
        """Print a line."""
        name = line.task or line.stream
        text = Text.assemble((f"{name:>12} │ ", "dim"), line.text)
        self.console.print(text, soft_wrap=True)

    def _complete(self, line: OutputLine) -> None:
        # Of what was overwritten in its place, such as a progress bar, the last state stays.
        text = line.text.rstrip().rpartition("\r")[2]
        line = replace(line, text=text)
        if text and not (self.holds is not None and self.holds(line)):
            self.print(line)


def print_result(console: Console, snapshot: RunSnapshot) -> None:
    """Print what the last tasks gave, or what went wrong, and what was not kept.

    The last words of a process that crashed were printed as its output.
    """
    for refused in snapshot.artifacts_refused:
        said = printable(f"artifact not kept: {refused.name}: {refused.reason}")
        console.print(Text(said, "yellow"), soft_wrap=True)
    took = (snapshot.end_time or 0) - (snapshot.start_time or 0)
    if snapshot.status is RunStatus.COMPLETED:
        console.print(Text(f"COMPLETED in {took:.1f} s", "bold green"), soft_wrap=True)
        ended = {
            name: record.ended_at or 0.0
            for name, record in snapshot.task_records.items()
            if record.output is not None
        }
        if ended:
            last = max(ended, key=lambda name: ended[name])
            output = snapshot.task_records[last].output
            text = output if isinstance(output, str) else _json(output)
            console.print(Text(f"{last} → {text}"), soft_wrap=True)
        return
    console.print(Text(f"{snapshot.status} after {took:.1f} s", "bold red"), soft_wrap=True)
    if snapshot.error:
        console.print(Text(snapshot.error.partition(LAST_WORDS)[0], "red"), soft_wrap=True)
    for name, record in snapshot.task_records.items():
        if record.traceback:
            console.print(Text(f"\n{name}\n{record.traceback}", "dim"), soft_wrap=True)


def _json(value: object) -> str:
    return json.dumps(msgspec.to_builtins(value), ensure_ascii=False, indent=2)
