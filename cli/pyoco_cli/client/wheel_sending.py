"""Building a wheel of a folder, and uploading it together with what it depends on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import typer
from packaging.version import Version

from pyoco_cli.client.uploading import upload
from pyoco_cli.common.wheel_dependencies import Target, download, missing_here
from pyoco_cli.common.wheel_project import (
    BadFolder,
    Project,
    build_wheel,
    next_version,
    rising_version,
    scratch_folder,
)
from pyoco_cli.common.wheel_trial import try_import
from pyoco_cli.configuration import load_settings
from pyoco_server.model.wheel import parse_wheel_name

if TYPE_CHECKING:
    from pyoco_server.client import PyocoHttpClient
    from pyoco_server.client.answers import WheelItemDict

Build: TypeAlias = Callable[[Project, str | None, Path], Path]
"""Makes a wheel of a project with a version, or with its own, in a folder."""


def build(project: Project, version: str | None, out: Path) -> Path:
    """Build a wheel.

    Raises:
        BadFolder: It cannot be built; the text says why.
    """
    out.mkdir(parents=True, exist_ok=True)
    return build_wheel(project, version, out)


def checked_build(project: Project, version: str | None, out: Path) -> Path:
    """Build a wheel that can be imported; no other one stays.

    Raises:
        BadFolder: It cannot be built, or not be imported; the text says why.
    """
    built = build(project, version, out)
    try:
        untried = try_import(built, load_settings().worker_import_timeout_sec)
    except BadFolder:
        built.unlink()
        raise
    for each in untried:
        typer.echo(
            f"not tried: {each.place} needs {each.missing!r}, which is not here; workers need it",
            err=True,
        )
    return built


class Sender:
    """Uploads wheels for the same workers.

    Args:
        client: The registry's.
        tags: Workers that they are for; None for all.
        shared: Whether they are for all tenants.
        target: What dependencies have to fit; None where they are not brought along.
    """

    def __init__(
        self, client: PyocoHttpClient, tags: list[str] | None, shared: bool, target: Target | None
    ) -> None:
        self._client = client
        self._tags = tags
        self._shared = shared
        self._target = target
        self._wheels = client.list_wheels()

    def send_rising(self, project: Project, out: Path, make: Build) -> WheelItemDict:
        """Upload with a version above what is in the registry, and above what once was, if need be.

        Raises:
            HttpProblem: The registry refuses it.
            BadFolder: As `send` and ``make`` do.
        """
        from pyoco_server.client import HttpProblem  # noqa: PLC0415 - with httpx, see connection.py

        present = [str(wheel["version"]) for wheel in self._present(project.package)]
        try:
            return self.send(make(project, rising_version(project, present), out))
        except HttpProblem as problem:
            latest = problem.extra.get("latest_version")
            if problem.status != 409 or not isinstance(latest, str):
                raise
        return self.send(build(project, next_version([latest]), out))

    def send(self, wheel: Path) -> WheelItemDict:
        """Upload a wheel after what it depends on, so that no worker has it without.

        Returns:
            The registry's item of the wheel.

        Raises:
            BadFolder: A dependency cannot be had, or not be brought.
            HttpProblem: The registry refuses one of them.
        """
        if self._target is None:
            self._warn(wheel)
        else:
            with scratch_folder() as scratch:
                for dependency in download(wheel, self._target, scratch):
                    self._send_dependency(dependency)
        return self._upload(wheel)

    def _present(self, package: str) -> list[WheelItemDict]:
        """The registry's wheels of a package."""
        return [wheel for wheel in self._wheels if wheel.get("package") == package]

    def _send_dependency(self, wheel: Path) -> None:
        name = parse_wheel_name(wheel.name)
        there = self._present(name.package)
        newest = max(there, key=lambda each: Version(each["version"]), default=None)
        if newest is None or Version(newest["version"]) < name.version:
            self._upload(wheel)
            typer.echo(f"brought: {wheel.name}", err=True)
        elif not self._reaches(newest):
            # Versions of a package only rise, so that it cannot be uploaded for others as well.
            raise BadFolder(
                f"it needs {name.package} {name.version}, and the registry has {newest['version']} for "
                f"workers with the tags {','.join(newest['tags'])} only: install it for the others' Python"
            )
        elif Version(newest["version"]) != name.version:
            typer.echo(f"kept: {newest['name']}, which is newer than {name.version}", err=True)

    def _upload(self, wheel: Path) -> WheelItemDict:
        return upload(self._client, wheel, tags=self._tags, shared=self._shared)

    def _reaches(self, wheel: WheelItemDict) -> bool:
        """Whether all workers that these wheels are for have that one."""
        tags = wheel.get("tags") or []
        return not tags or (self._tags is not None and set(self._tags) <= set(tags))

    def _warn(self, wheel: Path) -> None:
        packages = [str(each.get("package")) for each in self._wheels if self._reaches(each)]
        for requirement in missing_here(wheel, packages):
            typer.echo(
                f"needs {requirement}, which is not in the registry: install it for the workers' Python, "
                "or build with --with-deps",
                err=True,
            )
