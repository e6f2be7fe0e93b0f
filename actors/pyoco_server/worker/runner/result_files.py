"""Results that are too large for a run's records, as files that the worker keeps when the flow has ended."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

from pyoco_server.model.result import FOLDER, file_name

_WRITE: Final = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC


class ResultFiles:
    """Writes the results of one run. What is not written is missed by the worker, which says so.

    Args:
        workdir: The working folder of the run; None for a run without one, of which nothing is kept.
        most_bytes: How many one result may have.
        total_bytes: How many all of them may have.
    """

    def __init__(self, workdir: str | None, most_bytes: int, total_bytes: int) -> None:
        self.most_bytes = most_bytes
        self._folder = None if workdir is None else Path(workdir) / FOLDER
        self._left = total_bytes
        self._sizes: dict[str, int] = {}

    def keep(self, task: str, raw: bytes) -> None:
        """Write the latest result of a task, if there is room for it."""
        self._left += self._sizes.pop(task, 0)
        if self._folder is None or len(raw) > min(self.most_bytes, self._left):
            return
        with suppress(OSError):
            self._folder.mkdir(exist_ok=True)
            descriptor = os.open(self._folder / file_name(task), _WRITE, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(raw)
            self._left -= len(raw)
            self._sizes[task] = len(raw)
