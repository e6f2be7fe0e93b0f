"""What a run left in its folder for artifacts: found and opened without following any link."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

from pyoco_server.model.artifact import FOLDER, InvalidArtifactName, RefusedArtifact, check_name

_SHOWN_CHARACTERS: Final = 200
_DEEPEST: Final = 64
_OPEN: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC


def refusal(name: str, reason: str) -> RefusedArtifact:
    """Why a file is not kept; its name as far as it can be told."""
    shown = name.encode("utf-8", "backslashreplace").decode()
    return RefusedArtifact(name=shown[:_SHOWN_CHARACTERS], reason=reason)


def anything_saved(workdir: Path) -> bool:
    """Whether the run left anything for `find_saved` to look at; two quick calls to the system."""
    try:
        descriptor = os.open(workdir / FOLDER, _OPEN | os.O_DIRECTORY)
    except OSError:
        return os.path.lexists(workdir / FOLDER)
    try:
        with os.scandir(descriptor) as entries:
            return any(True for _ in entries)
    finally:
        os.close(descriptor)


def find_saved(workdir: Path, most: int) -> tuple[list[str], list[RefusedArtifact]]:
    """Look for saved files; return the names of those that can be kept, in order, and what cannot.

    Args:
        workdir: The working folder of the run.
        most: How many to find at most; that there are more is told by a refusal.
    """
    try:
        root = os.open(workdir / FOLDER, _OPEN | os.O_DIRECTORY)
    except OSError:
        return [], [refusal(FOLDER, "it is a link or no folder")]
    names: list[str] = []
    refused: list[RefusedArtifact] = []
    try:
        for name, why_not in _walk(root):
            if why_not is not None:
                refused.append(refusal(name, why_not))
            elif len(names) < most:
                names.append(name)
            else:
                refused.append(
                    refusal(name, f"{most} artifacts are kept at most (PYOCO_ARTIFACT_MAX_COUNT)")
                )
                break
            if len(refused) > most + 100:
                break
    finally:
        os.close(root)
    return sorted(names), refused


def _walk(root: int) -> Iterator[tuple[str, str | None]]:
    """Each file's name, and why it cannot be kept if it cannot."""
    for folder, folders, files, descriptor in os.fwalk(".", dir_fd=root, follow_symlinks=False):
        prefix = folder.removeprefix(".").removeprefix("/")
        folders.sort()
        if prefix.count("/") >= _DEEPEST and folders:
            yield f"{prefix}/{folders[0]}", f"more than {_DEEPEST} folders are in each other"
            folders.clear()
        for entry in sorted(files) + [each for each in folders if _is_link(each, descriptor)]:
            name = f"{prefix}/{entry}" if prefix else entry
            try:
                kind = os.stat(entry, dir_fd=descriptor, follow_symlinks=False).st_mode
                check_name(name)
            except InvalidArtifactName as error:
                yield name, str(error)
            except OSError as error:
                yield name, f"it cannot be looked at: {error.strerror}"
            else:
                yield name, None if stat.S_ISREG(kind) else "it is a link or no ordinary file"


def _is_link(name: str, descriptor: int) -> bool:
    try:
        return stat.S_ISLNK(os.stat(name, dir_fd=descriptor, follow_symlinks=False).st_mode)
    except OSError:
        return False


def open_saved(workdir: Path, folder: str, name: str) -> BinaryIO:
    """Open a file that a run left in such a folder, whatever has become of its path since.

    Raises:
        OSError: It is not there any more, or behind a link now.
    """
    descriptor = os.open(workdir / folder, _OPEN | os.O_DIRECTORY)
    try:
        *folders, last = name.split("/")
        for each in folders:
            deeper = os.open(each, _OPEN | os.O_DIRECTORY, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = deeper
        # A pipe that took the file's place must not make us wait for its writer.
        file = os.open(last, _OPEN | os.O_NONBLOCK, dir_fd=descriptor)
    finally:
        os.close(descriptor)
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise OSError(f"{name!r} is no ordinary file any more")
    return os.fdopen(file, "rb")
