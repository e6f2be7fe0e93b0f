"""`dev --wheel`: the folder as a wheel in the registry, built anew whenever its code changes."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Final, Self

import trio
from rich.console import Console
from rich.text import Text

from pyoco_cli.common.errors import CliError
from pyoco_cli.common.wheel_project import (
    BadFolder,
    build_wheel,
    read_project,
    rising_version,
    scratch_folder,
    task_modules,
)
from pyoco_server.backend import Backend
from pyoco_server.gateway.wheel_registry import NewWheel, Requester
from pyoco_server.jetstream.errors import BridgeError
from pyoco_server.kernel import KernelError, Refusal
from pyoco_server.model.errors import ModelError
from pyoco_server.model.wheel import StoredWheel, parse_wheel_name
from pyoco_server.model.wheel_history import WheelSource

_UPLOAD_SECONDS: Final = 60.0
_TAKE_SECONDS: Final = 30.0
_LOOK_SECONDS: Final = 0.02
_SOURCE: Final = WheelSource(user_agent="pyoco-server dev")


class NotTaken(Exception):
    """The worker does not run from the wheel; the text says why."""


class FolderWheel:
    """Keeps the registry's wheel of a folder in step with the folder.

    Args:
        folder: The folder of the tasks.
        console: Where to tell which wheel there is, or why there is no new one.
    """

    def __init__(self, folder: Path, console: Console) -> None:
        self._folder = folder
        self._console = console

    @classmethod
    def that_can_be_built(cls, folder: Path, console: Console) -> Self | None:
        """Try it out; where it is impossible, tell why in one line and return None. It blocks."""
        wheel = cls(folder, console)
        try:
            with scratch_folder() as place:
                build_wheel(read_project(folder, None), None, place)
        except (BadFolder, OSError) as error:
            wheel._warn(error, "runs import from the folder itself")
            return None
        return wheel

    def holds(self, path: Path) -> bool:
        """Whether a file may be part of the wheel, or say how it is built."""
        if path.suffix == ".py" or path == self._folder / "pyproject.toml":
            return True
        below = path.relative_to(self._folder).parts if path.is_relative_to(self._folder) else ()
        return len(below) > 1 and self._folder / below[0] in task_modules(self._folder)

    async def renew(self, backend: Backend) -> None:
        """Build a wheel with a new version, upload it, and wait until the worker runs from it.

        What stands in the way is told in one line, and runs go on with the wheel before.
        """
        try:
            wheel = await self._upload(backend)
            await _taken(backend, wheel.name.text)
        except (
            BadFolder,
            NotTaken,
            ModelError,
            Refusal,
            KernelError,
            BridgeError,
            OSError,
        ) as error:
            self._warn(error, "runs go on with the wheel before")
        else:
            text = f"wheel      {wheel.name.package} {wheel.name.version}"
            self._console.print(Text(text, "dim"), soft_wrap=True)

    async def _upload(self, backend: Backend) -> StoredWheel:
        project = read_project(self._folder, None)
        state = await backend.wheels.state()
        # Those that were deleted as well: nothing may follow below them.
        names = [
            str(name.version) for name in state.names_of(None) if name.package == project.package
        ]
        version = rising_version(project, names)
        with scratch_folder() as place:
            built = await trio.to_thread.run_sync(build_wheel, project, version, place)
            data = await trio.Path(built).read_bytes()
            with built.open("rb") as file:
                return await backend.wheel_registry.upload(
                    NewWheel(
                        parse_wheel_name(built.name),
                        file,
                        len(data),
                        hashlib.sha256(data).hexdigest(),
                        "application/octet-stream",
                        by=Requester(source=_SOURCE),
                    )
                )

    def _warn(self, error: Exception, then: str) -> None:
        why = str(error).partition("\n")[0]
        self._console.print(
            Text(f"no wheel of this folder: {why}; {then}", "yellow"), soft_wrap=True
        )


def check_options(folder: Path, state_dir: Path, flow_resolver: str | None) -> None:
    """Look at what goes along with ``--wheel``.

    Raises:
        CliError: Runs would see something else than the wheel, or it would hold more than the tasks.
    """
    place = (flow_resolver or "").partition(":")[0]
    if place.endswith(".py") or "/" in place:
        raise CliError(
            f"with --wheel, the flow resolver comes from the wheel as well, not from {place}",
            hint="--flow-resolver module:function",
        )
    inside = state_dir.relative_to(folder).parts if state_dir.is_relative_to(folder) else ()
    if state_dir == folder or (inside and not inside[0].startswith(".")):
        raise CliError(
            f"with --wheel, data cannot be in {state_dir}: they would be part of the wheel",
            hint="PYOCO_STATE_DIR=.pyoco",
        )


def python_path_without(folder: Path) -> dict[str, str]:
    """A PYTHONPATH by which nothing is imported from the folder."""
    entries = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    left = [entry for entry in entries if entry and Path(entry).resolve() != folder]
    return {"PYTHONPATH": os.pathsep.join(left)}


async def _taken(backend: Backend, name: str) -> None:
    with trio.move_on_after(_TAKE_SECONDS):
        while True:
            record = await backend.worker(backend.worker_id or "")
            if record is not None:
                if name in record.wheel_sync.selected_wheels:
                    return
                for skipped in record.wheel_sync.skipped_incompatible:
                    if skipped.wheel_name == name:
                        raise NotTaken(f"the worker does not take {name}: {skipped.reason}")
            await trio.sleep(_LOOK_SECONDS)
    raise NotTaken(f"the worker has not taken {name} within {_TAKE_SECONDS:g} s")
