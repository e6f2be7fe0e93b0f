"""Folders that several processes use and that are removed when nobody does, however their users end.

A user holds a shared lock on the folder itself (flock(2) on its descriptor); the kernel lets go of it with
the process. Whoever cleans up takes the folder away only when it gets the lock for itself alone.
"""

from __future__ import annotations

import fcntl
import os
import uuid
import weakref
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from pyoco_server.worker.removal import remove_folder


class HeldFolder:
    """A folder that stays for as long as this object is referred to. Made by `hold`."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._let_go = weakref.finalize(self, os.close, descriptor)

    def release(self) -> None:
        """Hold it no longer; it stays where it is."""
        self._let_go()

    def remove(self) -> None:
        """Remove it with all that is in it, and hold it no longer; what cannot be removed is left."""
        remove_folder(self.path)
        self._let_go()


def hold(path: Path) -> HeldFolder | None:
    """Hold a folder; None where there is none, or it is just being removed.

    Raises:
        OSError: It cannot be opened.
    """
    descriptor = _locked(path, fcntl.LOCK_SH)
    return None if descriptor is None else HeldFolder(path, descriptor)


def hold_alone(path: Path) -> HeldFolder | None:
    """Hold a folder that nobody else holds; None where somebody does, or there is none.

    Raises:
        OSError: It cannot be opened.
    """
    descriptor = _locked(path, fcntl.LOCK_EX)
    return None if descriptor is None else HeldFolder(path, descriptor)


def make_held(parent: Path, name: str | None = None) -> HeldFolder:
    """Make a folder and hold it.

    Args:
        parent: Where; made when missing.
        name: What to call it; anything when None.

    Raises:
        OSError: It cannot be made.
    """
    while True:
        path = parent / (name or uuid.uuid4().hex)
        path.mkdir(parents=True, exist_ok=name is not None)
        held = hold(path)
        if held is not None:  # else somebody cleaned up in between
            return held


def sweep(
    parent: Path,
    keep: frozenset[str] = frozenset(),
    *,
    first: Callable[[str], None] = lambda _name: None,
) -> int:
    """Remove every folder that nobody holds.

    Returns how many were removed; those that cannot be are left.

    Args:
        parent: The folder that they are in.
        keep: Names of those that stay in any case.
        first: What to do before, with the name of each.
    """
    removed = 0
    for path in list(parent.iterdir()) if parent.is_dir() else []:
        if path.name not in keep and _remove_unheld(path, first):
            removed += 1
    return removed


def _remove_unheld(path: Path, first: Callable[[str], None]) -> bool:
    with suppress(OSError):
        descriptor = _locked(path, fcntl.LOCK_EX)
        if descriptor is not None:
            try:
                first(path.name)
                remove_folder(path)
            finally:
                os.close(descriptor)
            return True
    return False


def _locked(path: Path, kind: int) -> int | None:
    """Lock a folder; None where that cannot be had now, or it is not there any more."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(descriptor), path.lstat()):
            return descriptor
    except (BlockingIOError, FileNotFoundError):
        pass
    except BaseException:  # whatever it was: the descriptor must not stay open
        os.close(descriptor)
        raise
    os.close(descriptor)
    return None
