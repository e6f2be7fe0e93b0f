"""Importing what a new wheel holds, as a worker would, before anybody gets it."""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import trio

from pyoco_cli.common.wheel_project import BadFolder, scratch_folder
from pyoco_server.model.wheel import parse_wheel_name
from pyoco_server.model.wheel_archive import BadWheel
from pyoco_server.worker.runner.catalog import PluginQuery, try_providers
from pyoco_server.worker.runner.environment import inherited
from pyoco_server.worker.wheel_install import install_wheel

_MISSING = re.compile(r"raised ModuleNotFoundError: No module named '([^'.]+)")


@dataclass(frozen=True, slots=True)
class Untried:
    """A module that cannot be imported here for want of one that workers may have."""

    place: str
    missing: str


def try_import(wheel: Path, seconds: float) -> list[Untried]:
    """Import each module of a wheel and register its plug-ins, in a process of its own.

    Args:
        wheel: The wheel.
        seconds: What each may take.

    Returns:
        What lacks a module of another distribution.

    Raises:
        BadFolder: One does something else than being imported; the text says which, and what.
    """
    name = parse_wheel_name(wheel.name)
    with scratch_folder() as place:
        try:
            install_wheel(wheel, name, place)
        except BadWheel as error:
            raise BadFolder(f"{wheel.name} cannot be used: {error}") from None
        modules = _modules(place)
        env = inherited(os.environ) | {"PYOCO_DISCOVERY_MODULES": " ".join(modules)}
        look = PluginQuery(
            python=sys.executable,
            paths=(str(place),),
            env=frozenset(env.items()),
            seconds=seconds,
            only=name.package,
        )
        found = trio.run(try_providers, look)
    untried = []
    for provider in found:
        missing = _MISSING.match(provider.problem or "")
        if missing is not None and missing[1] not in modules:
            untried.append(Untried(provider.place, missing[1]))
        elif provider.problem is not None:
            raise BadFolder(
                f"{provider.place} {provider.problem}. Each process that looks for tasks imports what a "
                "wheel holds: put what is to happen only when it is executed below "
                '`if __name__ == "__main__":`, or leave it out of the folder.'
            )
    return untried


def _modules(folder: Path) -> list[str]:
    """The top-level modules and packages in a folder that a wheel was installed into."""
    return sorted(
        path.stem if path.suffix == ".py" else path.name
        for path in folder.iterdir()
        if (path.suffix == ".py" and path.stem.isidentifier())
        or (path.name.isidentifier() and (path / "__init__.py").is_file())
    )
