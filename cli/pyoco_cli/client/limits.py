"""The options for what a run may take."""

from __future__ import annotations

from typing import Annotated, TypedDict

import typer


class LimitOptions(TypedDict):
    """What a run may take."""

    timeout_sec: Annotated[float | None, typer.Option(help="Seconds that an attempt may take.")]
    max_attempts: Annotated[int | None, typer.Option(help="How often the run may be started.")]
    retry_backoff_sec: Annotated[
        float | None, typer.Option(help="Seconds before the second attempt; doubled each time.")
    ]
    memory_mb: Annotated[
        int | None, typer.Option(help="MB that the processes of an attempt may have together.")
    ]
    cpu_sec: Annotated[
        float | None, typer.Option(help="Seconds of processor time that they may take together.")
    ]
