"""Uploading a wheel together with what it depends on."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import typer
from packaging.version import Version

from pyoco_cli.client.uploading import upload
from pyoco_cli.common.wheel_dependencies import Target, download, missing_here
from pyoco_cli.common.wheel_project import BadFolder
from pyoco_server.model.wheel import parse_wheel_name

if TYPE_CHECKING:
    from pyoco_server.client import PyocoHttpClient
    from pyoco_server.client.answers import WheelItemDict


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

    def present(self, package: str) -> list[WheelItemDict]:
        """The registry's wheels of a package."""
        return [wheel for wheel in self._wheels if wheel.get("package") == package]

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
            with TemporaryDirectory(prefix="pyoco-wheel-") as scratch:
                for dependency in download(wheel, self._target, Path(scratch)):
                    self._send_dependency(dependency)
        return self._upload(wheel)

    def _send_dependency(self, wheel: Path) -> None:
        name = parse_wheel_name(wheel.name)
        there = self.present(name.package)
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
