"""Folders that several processes use and that are removed when nobody does, however their users end.

A user holds a shared lock on the folder itself (flock(2) on its descriptor); the kernel lets go of it with
the process. Whoever cleans up takes the folder away only when it gets the lock for itself alone.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import uuid
import weakref
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

_REMOVAL_SECONDS: Final = 60.0


class HeldFolder:
    """A folder that stays for as long as this object is referred to. Made by `hold`.

    Equal ones are of one and the same folder, none that was made anew in its place.
    """

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._found = os.fstat(descriptor)
        self._let_go = weakref.finalize(self, os.close, descriptor)

    def __eq__(self, other: object) -> bool:
        """Whether both are of the same folder; as long as one is held, no other gets its number."""
        return isinstance(other, HeldFolder) and os.path.samestat(self._found, other._found)

    def __hash__(self) -> int:
        """Equal ones have the same."""
        return hash(self._found.st_ino)

    def is_there(self) -> bool:
        """Whether it is in its place still: who knows of no locks may have removed it."""
        with suppress(OSError):
            return os.path.samestat(self._found, self.path.lstat())
        return False

    def release(self) -> None:
        """Hold it no longer; it stays where it is."""
        self._let_go()

    def remove(self) -> None:
        """Remove it with all that is in it, and hold it no longer; what cannot be removed is left."""
        remove_folder(self.path)
        self._let_go()


def hold(path: Path, *, alone: bool = False) -> HeldFolder | None:
    """Hold a folder; None where there is none, or it is just being removed.

    With ``alone`` also where somebody else holds it; nobody else can hold it then.

    Raises:
        OSError: It cannot be opened.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(descriptor), path.lstat()):
            return HeldFolder(path, descriptor)
    except (BlockingIOError, FileNotFoundError):
        pass
    except BaseException:  # whatever it was: the descriptor must not stay open
        os.close(descriptor)
        raise
    os.close(descriptor)
    return None


def make_held(parent: Path, name: str | None = None) -> HeldFolder:
    """Make a folder and hold it, under any name where it is given none; a missing parent is made as well.

    Raises:
        OSError: It cannot be made.
    """
    while True:
        path = parent / (name or uuid.uuid4().hex)
        path.mkdir(parents=True, exist_ok=name is not None)
        if (held := hold(path)) is not None:  # else somebody cleaned up in between
            return held


def sweep(
    parent: Path,
    keep: frozenset[str] = frozenset(),
    *,
    first: Callable[[str], None] = lambda _name: None,
) -> None:
    """Remove every folder in a parent that nobody holds, but for what ``keep`` names; what cannot be is left.

    ``first`` is called before, with the name of each.
    """
    for path in list(parent.iterdir()) if parent.is_dir() else []:
        if path.name not in keep:
            with suppress(OSError):
                _remove_unheld(path, first)


def _remove_unheld(path: Path, first: Callable[[str], None]) -> None:
    if (held := hold(path, alone=True)) is not None:
        try:
            first(path.name)
            held.remove()
        finally:
            held.release()


def remove_folder(path: Path) -> None:
    """Remove a folder with all that is in it, or what stands in its place; blocks.

    What cannot be removed has another name afterwards, so that nobody takes it for his.
    """
    with suppress(OSError):
        path.unlink()  # a link, or what else is no folder
    with suppress(OSError, RecursionError):  # of rmtree: one level of calls for each folder
        shutil.rmtree(path)
    if path.is_dir():
        # Neither is stopped by depth, or by a folder that its owner has closed; they follow no link.
        for argv in (["chmod", "-R", "u+rwx"], ["rm", "-rf"]):
            with suppress(OSError, subprocess.SubprocessError):
                subprocess.run(  # noqa: S603 - programs of the system
                    [*argv, "--", str(path)],
                    capture_output=True,
                    check=False,
                    timeout=_REMOVAL_SECONDS,
                )
    if path.is_dir():
        with suppress(OSError):
            path.rename(path.with_name(f"{path.name}.left-{uuid.uuid4().hex}"))
