"""Sees to it that working folders and processes of runs go with the worker, also with one that was killed."""

from __future__ import annotations

from pathlib import Path
from typing import Never

from pyoco_server.kernel import Actor
from pyoco_server.store.threads import in_thread
from pyoco_server.worker.control_group import WorkerGroup
from pyoco_server.worker.held_folder import HeldFolder, make_held, sweep
from pyoco_server.worker.runner.guarded import Guardian
from pyoco_server.worker.runner.kin import end_marked, marks_of
from pyoco_server.worker.spare import SpareChild


class Housekeeper(Actor[Never]):
    """Holds the folder of this worker, and removes those that nobody holds any more.

    Args:
        guardian: Made the children, and goes after them.
        groups: Were theirs, if there are any.
        spare: The child that no slot took.
    """

    def __init__(
        self,
        folders: Path,
        own: str,
        guardian: Guardian,
        groups: WorkerGroup | None,
        spare: SpareChild,
    ) -> None:
        self._folders = folders
        self._own = own
        self._guardian = guardian
        self._groups = groups
        self._spare = spare
        self._held: HeldFolder | None = None

    async def on_start(self) -> None:
        """Make the worker's folder, and begin to remove those of dead ones."""
        self._held = await in_thread(make_held, self._folders, self._own)
        self.spawn(self._sweep)

    async def _sweep(self) -> None:
        await in_thread(end_what_dead_workers_left, self._folders)

    async def on_stop(self) -> None:
        """End what is left of the children, and remove the worker's folder; its slots have ended before."""
        await self._spare.stop()
        await self._guardian.close()
        if self._groups is not None:
            self._groups.remove()
        if self._held is not None:
            await in_thread(self._held.remove)


def end_what_dead_workers_left(folders: Path) -> None:
    """End processes and remove folders of workers that were killed with all that would have done that."""
    sweep(folders, first=lambda worker: end_marked(marks_of(worker)))
