"""What a wheel depends on: found out, and brought as wheels."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from email.parser import Parser
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from pyoco_cli.common.wheel_project import BadFolder, scratch_folder

_WORKERS_OWN = frozenset({"pyoco", "pyoco-server"})


@dataclass(frozen=True, slots=True)
class Target:
    """What dependencies have to fit.

    Attributes:
        python: A version of Python such as "3.12"; None for the one that runs this.
        platforms: Platforms such as "manylinux_2_28_x86_64"; none for this machine.
    """

    python: str | None = None
    platforms: tuple[str, ...] = ()


def requirements_of(wheel: Path) -> list[Requirement]:
    """What a wheel needs here, as its METADATA says, without extras and what each worker has.

    Raises:
        OSError: It cannot be read.
    """
    with zipfile.ZipFile(wheel) as archive:
        name = next(n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        metadata = Parser().parsestr(archive.read(name).decode("utf-8", "replace"))
    needed = []
    for line in metadata.get_all("Requires-Dist") or []:
        try:
            requirement = Requirement(line)
        except InvalidRequirement:  # the registry says so when it is uploaded
            continue
        marker = requirement.marker
        if canonicalize_name(requirement.name) not in _WORKERS_OWN and (
            marker is None or marker.evaluate({"extra": ""})
        ):
            needed.append(requirement)
    return needed


def download(wheel: Path, target: Target, out: Path) -> list[Path]:
    """Have pip download wheels of what a wheel depends on, and of what that does.

    Args:
        wheel: The wheel.
        target: What they have to fit.
        out: Where they go; made when missing.

    Raises:
        BadFolder: Something is not to be had as a wheel; the text is pip's.
        OSError: There is no room for them.
    """
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    command += ["--only-binary", ":all:"]
    if target.python is not None:
        command += ["--python-version", target.python]
    for platform in target.platforms:
        command += ["--platform", platform]
    with scratch_folder() as scratch:
        done = subprocess.run(  # noqa: S603 - pip, with what the user gave
            [*command, "--dest", str(scratch), *map(str, requirements_of(wheel))],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise BadFolder(
                f"what {wheel.name} depends on cannot be had as wheels:\n{done.stderr.strip()[-2000:]}"
            )
        out.mkdir(parents=True, exist_ok=True)
        return [
            Path(shutil.move(path, out / path.name))
            for path in sorted(scratch.glob("*.whl"))
            if canonicalize_name(path.name.partition("-")[0]) not in _WORKERS_OWN
        ]


def missing_here(wheel: Path, present: Sequence[str]) -> list[Requirement]:
    """What a wheel needs, less the packages that are present.

    Args:
        wheel: The wheel.
        present: Names of packages.
    """
    known = {canonicalize_name(name) for name in present}
    return [each for each in requirements_of(wheel) if canonicalize_name(each.name) not in known]
