"""The options for what a run may take."""

from __future__ import annotations

from typing import Annotated, TypeAlias, TypedDict

import typer

Timeout: TypeAlias = Annotated[
    float | None, typer.Option("--timeout-sec", help="Seconds that an attempt may take.")
]
Attempts: TypeAlias = Annotated[
    int | None, typer.Option("--max-attempts", help="How often the run may be started.")
]
Backoff: TypeAlias = Annotated[
    float | None,
    typer.Option(
        "--retry-backoff-sec", help="Seconds before the second attempt; doubled each time."
    ),
]
Memory: TypeAlias = Annotated[
    int | None,
    typer.Option("--memory-mb", help="MB that the processes of an attempt may have together."),
]
Cpu: TypeAlias = Annotated[
    float | None,
    typer.Option("--cpu-sec", help="Seconds of processor time that they may take together."),
]


class LimitOptions(TypedDict):
    """What a run may take."""

    timeout_sec: Timeout
    max_attempts: Attempts
    retry_backoff_sec: Backoff
    memory_mb: Memory
    cpu_sec: Cpu
