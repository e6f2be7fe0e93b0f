"""The child process of a slot over its lives, and the folder that each run gets."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import trio

from pyoco_server.worker.runner.handle import Exited, RunnerOptions, RunnerProcess, open_runner
from pyoco_server.worker.runner.protocol import ChildMessage, WorkerMessage
from pyoco_server.worker.wheel_set import NO_WHEELS, WheelSet

_STOP_GRACE_SECONDS = 1.0

Spawn: TypeAlias = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Said:
    """The child, in which of its lives, said something or ended."""

    life: int
    event: ChildMessage | Exited


class SlotChild:
    """A warm child process; a new one takes the place of each that ended.

    Args:
        options: How it is started.
        folder: Where its runs have their current directory, one after the other.
        listen: Called with each new life, to read what it says (`RunnerProcess.events`).

    Attributes:
        wheels: What its present life imports from.
        life: How many lives it had.
    """

    def __init__(
        self,
        options: RunnerOptions,
        folder: Path,
        listen: Callable[[RunnerProcess, int], None],
    ) -> None:
        self._options = options
        self._folder = folder
        self._listen = listen
        self._runner: RunnerProcess | None = None
        self.wheels = NO_WHEELS
        self.life = 0

    @property
    def folder(self) -> Path:
        """Where its runs have their current directory."""
        return self._folder

    @property
    def pid(self) -> int | None:
        """Its process id; None before the first start."""
        return None if self._runner is None else self._runner.pid

    async def start(self) -> None:
        """Start the next life.

        Raises:
            OSError: No process can be made.
        """
        self.life += 1
        paths = (*self._options.extra_sys_path, *self.wheels.import_paths)
        self._runner = await open_runner(replace(self._options, extra_sys_path=paths))
        self._listen(self._runner, self.life)

    async def stop(self) -> None:
        """End the present life, within a few seconds; does nothing when there is none."""
        if self._runner is not None:
            await self._runner.stop(_STOP_GRACE_SECONDS)

    async def use(self, wheels: WheelSet) -> bool:
        """Import from these wheels from now on; return whether that took a new life.

        Raises:
            OSError: No process can be made.
        """
        if self._runner is not None and wheels.digest == self.wheels.digest:
            return False
        await self.stop()
        # The set before may go now: nothing imports from it any more.
        self.wheels = wheels
        await self.start()
        return True

    async def replace(self) -> None:
        """End the present life and start the next."""
        await self.stop()
        await self.start()

    def terminate(self) -> None:
        """Tell it to end, with a signal that its code may handle; its end is an event like any other."""
        if self._runner is not None:
            self._runner.terminate()

    def kill(self) -> None:
        """Kill it now; its end is an event like any other."""
        if self._runner is not None:
            self._runner.kill()

    def tell(self, message: WorkerMessage, spawn: Spawn) -> None:
        """Tell its present life something, in a task of its own; to one that has ended, nothing happens.

        A child that does not read, because its code holds it up, holds up nobody else.
        """
        if self._runner is not None:
            spawn(self._runner.send, message)

    def make_folder(self) -> None:
        """Make the folder for the next run; what an earlier one left is gone.

        Raises:
            OSError: There is no room for it.
        """
        self._folder.mkdir(parents=True, exist_ok=True)

    async def remove_folder(self) -> None:
        """Remove the folder with all that a run left in it."""
        # The engine makes an empty "artifacts" there; two system calls do for most runs.
        with suppress(OSError):
            (self._folder / "artifacts").rmdir()
        try:
            self._folder.rmdir()
        except FileNotFoundError:
            return
        except OSError:
            await trio.to_thread.run_sync(_remove_tree, self._folder)


def _remove_tree(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
