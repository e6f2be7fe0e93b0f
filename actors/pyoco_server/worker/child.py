"""The child process of a slot over its lives, and the folder that its runs have."""

from __future__ import annotations

import errno
import os
import shutil
from dataclasses import replace
from pathlib import Path

import trio

from pyoco_server.worker.runner.handle import (
    Exited,
    RunnerEvent,
    RunnerOptions,
    RunnerProcess,
    Spawn,
    open_runner,
)
from pyoco_server.worker.runner.protocol import WorkerMessage
from pyoco_server.worker.saved_files import FOLDER, anything_saved
from pyoco_server.worker.wheel_set import NO_WHEELS, WheelSet

_STOP_GRACE_SECONDS = 1.0


class SlotChild:
    """A warm child process; a new one takes the place of each that ended.

    Args:
        options: How it is started.
        folder: Where its runs have their current directory, one after the other.

    Attributes:
        folder: The same.
        wheels: What its present life imports from.
    """

    def __init__(self, options: RunnerOptions, folder: Path) -> None:
        self._options = options
        self.folder = folder
        self._runner: RunnerProcess | None = None
        self.wheels = NO_WHEELS

    @property
    def pid(self) -> int | None:
        """Its process id; None before the first start."""
        return None if self._runner is None else self._runner.pid

    async def start(self) -> None:
        """Start the next life.

        Raises:
            OSError: No process can be made.
        """
        paths = (*self._options.extra_sys_path, *self.wheels.import_paths)
        self._runner = await open_runner(replace(self._options, extra_sys_path=paths))

    async def stop(self) -> None:
        """End the present life, within a few seconds; does nothing when there is none."""
        if self._runner is not None:
            await self._runner.stop(_STOP_GRACE_SECONDS)

    async def use(self, wheels: WheelSet) -> None:
        """Import from these wheels from now on, which may take a new life.

        Raises:
            OSError: No process can be made.
        """
        if self._runner is not None and wheels.digest == self.wheels.digest:
            return
        await self.stop()
        # The set before may go now: nothing imports from it any more.
        self.wheels = wheels
        await self.start()

    async def replace(self) -> None:
        """End the present life and start the next."""
        await self.stop()
        await self.start()

    async def next_event(self) -> RunnerEvent:
        """Wait for what its present life says next, `Exited` at last. Cancelling it loses nothing."""
        assert self._runner is not None
        async for event in self._runner.events:
            return event
        return Exited(0, None, "")  # its end was told already

    def terminate(self) -> None:
        """Tell it to end, with a signal that its code may handle; its end is an event like any other."""
        if self._runner is not None:
            self._runner.terminate()

    def kill(self) -> None:
        """Kill it now; its end is an event like any other."""
        if self._runner is not None:
            self._runner.kill()

    def tell(self, message: WorkerMessage, spawn: Spawn) -> None:
        """Tell its present life something without waiting; to one that has ended, nothing happens."""
        if self._runner is not None:
            self._runner.tell(message, spawn)

    async def make_folder(self) -> None:
        """Make the folder for the next run, if it is not there.

        Raises:
            OSError: There is no room for a run.
        """
        try:
            room = os.statvfs(self.folder)
        except FileNotFoundError:
            await trio.to_thread.run_sync(_make, self.folder)
        else:
            ours = os.geteuid() == 0  # what is set aside for root, too
            blocks = room.f_bfree if ours else room.f_bavail
            files = room.f_ffree if ours else room.f_favail
            # File systems without a limit tell of none.
            if (room.f_blocks and not blocks) or (room.f_files and not files):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.folder))

    async def clear_folder(self) -> None:
        """Remove what a run left in the folder; an empty one, as the engine leaves it, stays."""
        if _names(self.folder) - {FOLDER} or anything_saved(self.folder):
            await self.remove_folder()

    async def remove_folder(self) -> None:
        """Remove the folder with all that a run left in it."""
        await trio.to_thread.run_sync(_remove, self.folder)


def _names(folder: Path) -> set[str]:
    try:
        with os.scandir(folder) as entries:
            return {entry.name for entry in entries}
    except FileNotFoundError:
        return set()
    except OSError:
        return {"something else"}  # no folder, or one that cannot be read


def _make(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
