"""The progress of a backup or restore on a terminal; nothing elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TransferSpeedColumn,
)

from pyoco_server.operations import backup


@contextmanager
def transfer_shown(what: str) -> Iterator[backup.Progress]:
    """A bar for each stream, on stderr; the block gets what is to be told of the progress."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield backup.ignore
        return
    bars: dict[str, TaskID] = {}
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        DownloadColumn(),
        TransferSpeedColumn(),
        console=console,
    ) as progress:

        def told(part: str, done: int, total: int) -> None:
            if part not in bars:
                bars[part] = progress.add_task(f"{what} {part}")
            progress.update(
                bars[part], completed=done, total=max(total, 1) if done < total else done
            )

        yield told
