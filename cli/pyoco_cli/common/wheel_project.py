"""A folder of tasks as something that a wheel can be built of.

A folder with a pyproject.toml is a project already, and its own build backend builds it. Any other one is
copied into a project that is made for it: its modules and packages as they lie there, and a plug-in for
the engine (entry point ``pyoco.tasks``) that brings all tasks which they define.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import build
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

FIRST_VERSION: Final = "0.1.0"

_LEFT_OUT: Final = frozenset(
    {"tests", "test", "build", "dist", "venv", "node_modules", "artifacts"}
)
_IGNORED: Final = shutil.ignore_patterns("__pycache__", "*.pyc", ".*")
_PLUGIN: Final = '''\
"""Brings the tasks of this wheel to the engine; made by pyoco-client wheel-build."""

import importlib

from pyoco.core.models import Task
from pyoco.dsl.syntax import TaskWrapper

MODULES = {modules}


def register(registry):
    for name in MODULES:
        module = importlib.import_module(name)
        for attribute, value in vars(module).items():
            task = value.task if isinstance(value, TaskWrapper) else value
            if isinstance(task, Task) and task.func.__module__ == module.__name__:
                registry.add(value, name=attribute)
'''


class BadFolder(Exception):
    """A folder that no wheel can be built of; the text says why."""


@dataclass(frozen=True, slots=True)
class Project:
    """What a wheel is built of.

    Attributes:
        folder: The user's folder.
        name: The package's name.
        version: Its version as the folder has it; None where it has none.
        own: Whether the folder is a project of its own.
    """

    folder: Path
    name: str
    version: str | None
    own: bool

    @property
    def package(self) -> str:
        """The name as the registry compares it."""
        return str(canonicalize_name(self.name))


def read_project(folder: Path, name: str | None) -> Project:
    """Look at a folder.

    Args:
        folder: The folder.
        name: What to call the package, where the folder does not say.

    Raises:
        BadFolder: It is none, or its pyproject.toml does not name a package.
    """
    if not folder.is_dir():
        raise BadFolder(f"{folder} is no folder")
    described = folder / "pyproject.toml"
    if not described.is_file():
        name = name or re.sub(r"[^A-Za-z0-9]+", "-", folder.resolve().name).strip("-").lower()
        if not name:
            raise BadFolder(f"{folder}: give the package a --name")
        return Project(folder, name, None, own=False)
    try:
        table = tomllib.loads(described.read_text()).get("project", {})
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise BadFolder(f"{described}: {error}") from None
    if not isinstance(table, dict) or not isinstance(table.get("name"), str):
        raise BadFolder(f"{described} has no [project] with a name")
    version = table.get("version")
    return Project(folder, table["name"], version if isinstance(version, str) else None, own=True)


def next_version(present: Sequence[str]) -> str:
    """The version above all of these: the last number of the highest one, plus one."""
    versions = []
    for text in present:
        try:
            versions.append(Version(text))
        except InvalidVersion:
            continue
    if not versions:
        return FIRST_VERSION
    *head, last = max(versions).release
    return ".".join(str(number) for number in (*head, last + 1))


def rising_version(project: Project, present: Sequence[str]) -> str:
    """The project's own version where it is above all of these, else the one above them."""
    own = project.version
    if own is None or any(Version(other) >= Version(own) for other in present):
        return next_version(present)
    return own


def build_wheel(project: Project, version: str | None, out: Path) -> Path:
    """Build a wheel; nothing is written into the folder itself.

    Args:
        project: Of what.
        version: Its version; None for the one that the project has itself.
        out: Where the wheel goes.

    Raises:
        BadFolder: It cannot be built; the text says why.
    """
    with _sources(project, version) as sources:
        lines: list[str] = []
        try:
            builder = build.ProjectBuilder(sources, runner=_quietly(lines))
            return Path(builder.build("wheel", out))
        except (build.BuildException, build.BuildBackendException) as error:
            said = "".join(lines)[-2000:].strip()
            raise BadFolder(
                f"{project.folder} cannot be built: {error}"
                + (f"\n{said}" if said else "")
                + "\nA build backend has to be installed beside pyoco-client (hatchling is); or build "
                "the wheel by other means and upload it with wheel-upload."
            ) from None


def task_modules(folder: Path) -> list[Path]:
    """The modules and packages of a folder that go into its wheel; tests and the like do not."""
    found = []
    for path in sorted(folder.iterdir()):
        if path.name.startswith((".", "_pyoco_tasks_")) or path.name in _LEFT_OUT:
            continue
        module = path.suffix == ".py" and path.stem.isidentifier() and path.is_file()
        package = path.is_dir() and path.name.isidentifier() and any(path.rglob("*.py"))
        if (module and path.name != "setup.py") or (package and path.name != "__pycache__"):
            found.append(path)
    return found


def _quietly(lines: list[str]) -> Any:
    def run(
        command: Sequence[str],
        cwd: str | None = None,
        extra_environ: Mapping[str, str] | None = None,
    ) -> None:
        done = subprocess.run(  # noqa: S603 - the hook runner of `build`
            list(command),
            cwd=cwd,
            env={**os.environ, **(extra_environ or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        lines.append(done.stdout)
        done.check_returncode()

    return run


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A folder for wheels on their way, which goes with the block."""
    with TemporaryDirectory(prefix="pyoco-wheel-") as place:
        yield Path(place)


@contextmanager
def _sources(project: Project, version: str | None) -> Iterator[Path]:
    with scratch_folder() as place:
        copy = place / "project"
        if project.own:
            shutil.copytree(project.folder, copy, symlinks=True, ignore=_IGNORED)
            if version is not None and version != project.version:
                _rewrite_version(copy / "pyproject.toml", version)
        else:
            copy.mkdir()
            _make_project(project, version or FIRST_VERSION, copy)
        yield copy


def _rewrite_version(described: Path, version: str) -> None:
    text = described.read_text()
    head, found, table = text.partition("[project]")
    table, end, rest = table.partition("\n[")
    table, count = re.subn(r'(?m)^(version\s*=\s*)["\'][^"\']*["\']', rf'\g<1>"{version}"', table)
    if not found or count != 1:
        raise BadFolder(
            "its pyproject.toml has no version in [project] that could be raised: raise it where it "
            "comes from, or use --no-bump"
        )
    described.write_text(head + found + table + end + rest)


def _requirements(folder: Path) -> list[str]:
    """What the requirements.txt of a folder names, if it has one."""
    listed = folder / "requirements.txt"
    if not listed.is_file():
        return []
    found = []
    try:
        lines = listed.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadFolder(f"{listed}: {error}") from None
    for number, line in enumerate(lines, 1):
        text = re.sub(r"(^|\s)#.*", "", line).strip()
        try:
            found += [str(Requirement(text))] if text else []
        except InvalidRequirement:
            raise BadFolder(
                f"{listed}, line {number}: {text!r} is no requirement that a wheel can have; it takes "
                "lines such as 'pandas>=2'"
            ) from None
    return found


def _make_project(project: Project, version: str, copy: Path) -> None:
    modules = task_modules(project.folder)
    if not modules:
        raise BadFolder(f"{project.folder} holds no Python module and no package")
    for path in modules:
        if path.is_dir():
            shutil.copytree(path, copy / path.name, ignore=_IGNORED)
        else:
            shutil.copy2(path, copy / path.name)
    names = [path.stem if path.is_file() else path.name for path in modules]
    plugin = f"_pyoco_tasks_{re.sub('[^a-z0-9]', '_', project.package)}"
    (copy / f"{plugin}.py").write_text(_PLUGIN.format(modules=names))
    readme = next((f for f in project.folder.glob("README*.md") if f.is_file()), None)
    text = readme.read_text(errors="replace") if readme else ""
    usage = (
        f"Tasks for pyoco, from the modules {', '.join(names)}. In a flow.yaml a task of this wheel is "
        "named by `callable: module:function`, or by `use: name` where it is defined with @task."
    )
    (copy / "README.md").write_text(f"{text.strip()}\n\n{usage}\n".lstrip())
    included = [path.name for path in modules] + [f"{plugin}.py"]
    (copy / "pyproject.toml").write_text(
        "[build-system]\n"
        'requires = ["hatchling"]\nbuild-backend = "hatchling.build"\n\n'
        "[project]\n"
        f"name = {json.dumps(project.name)}\nversion = {json.dumps(version)}\n"
        f"description = {json.dumps('pyoco tasks of ' + project.name)}\n"
        f"dependencies = {json.dumps(_requirements(project.folder))}\n"
        'readme = "README.md"\n\n'
        '[project.entry-points."pyoco.tasks"]\n'
        f'{json.dumps(project.package)} = "{plugin}:register"\n\n'
        "[tool.hatch.build.targets.wheel.force-include]\n"
        + "".join(f"{json.dumps(name)} = {json.dumps(name)}\n" for name in included)
    )
