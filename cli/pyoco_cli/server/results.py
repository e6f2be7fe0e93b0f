"""How a run that ended is told on the terminal, which breaks lines that are too long for it."""

from __future__ import annotations

import json

import msgspec
from rich.console import Console
from rich.text import Text

from pyoco_server.model.run import RunSnapshot, RunStatus
from pyoco_server.worker.runner.protocol import Output


def print_output(console: Console, output: Output) -> None:
    """Print what a task printed, each line with the task's name before it."""
    name = output.task or output.stream
    for line in output.text.splitlines():
        if line.strip():
            console.print(Text.assemble((f"{name:>12} │ ", "dim"), line.rstrip()), soft_wrap=True)


def print_result(console: Console, snapshot: RunSnapshot) -> None:
    """Print what the last tasks gave, or what went wrong."""
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
        console.print(Text(snapshot.error, "red"), soft_wrap=True)
    for name, record in snapshot.task_records.items():
        if record.traceback:
            console.print(Text(f"\n{name}\n{record.traceback}", "dim"), soft_wrap=True)


def _json(value: object) -> str:
    return json.dumps(msgspec.to_builtins(value), ensure_ascii=False, indent=2)
