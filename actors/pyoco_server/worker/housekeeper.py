"""Sees to it that working folders of runs go with the worker, also with one that was killed."""

from __future__ import annotations

from pathlib import Path
from typing import Never

import trio

from pyoco_server.kernel import Actor
from pyoco_server.worker.held_folder import HeldFolder, make_held, sweep


class Housekeeper(Actor[Never]):
    """Holds the folder of this worker, and removes those that nobody holds any more."""

    def __init__(self, folders: Path, own: str) -> None:
        self._folders = folders
        self._own = own
        self._held: HeldFolder | None = None

    async def on_start(self) -> None:
        """Make the worker's folder, and begin to remove those of dead ones."""
        self._held = await trio.to_thread.run_sync(make_held, self._folders, self._own)
        self.spawn(self._sweep)

    async def _sweep(self) -> None:
        await trio.to_thread.run_sync(sweep, self._folders)

    async def on_stop(self) -> None:
        """Remove the worker's folder; its slots have ended before."""
        if self._held is not None:
            await trio.to_thread.run_sync(self._held.remove)
