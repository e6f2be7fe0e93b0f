"""A folder for one program at a time: who has it, and that nobody else gets it."""

from __future__ import annotations

import fcntl
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import trio

_NAME: Final = "lock"
# How long what a killed program leaves (it is killed with it) may take to be gone.
_LEAVE_SECONDS: Final = 5.0
_LOOK_SECONDS: Final = 0.02


class StoreInUse(Exception):
    """Another program has the folder.

    Args:
        folder: The folder.
        holder: Who has it, as the program wrote it down: its process id and its command.
    """

    def __init__(self, folder: Path, holder: str) -> None:
        self.pid = _pid_in(holder)
        who = f"process {holder}" if holder else "another process"
        super().__init__(f"{folder} is in use by {who}")


@asynccontextmanager
async def locked(folder: Path) -> AsyncIterator[int]:
    """Hold the folder for the length of the block; gives the lock's descriptor.

    The lock (flock(2)) lasts as long as any process has the descriptor: one that is given it holds the folder
    too, beyond the end of this program.

    Raises:
        StoreInUse: Another program has it.
        OSError: It cannot be locked.
    """
    os.makedirs(folder, exist_ok=True)  # noqa: PTH103 - takes no time worth a thread
    descriptor = os.open(folder / _NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        deadline = trio.current_time() + _LEAVE_SECONDS
        while not _taken(descriptor):
            holder = os.pread(descriptor, 4096, 0).decode("utf-8", "replace").strip()
            pid = _pid_in(holder)
            if pid is None or _runs(pid) or trio.current_time() > deadline:
                raise StoreInUse(folder, holder)
            await trio.sleep(_LOOK_SECONDS)
        os.ftruncate(descriptor, 0)
        command = " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])[:200]
        os.pwrite(descriptor, f"{os.getpid()} ({command})\n".encode("utf-8", "replace"), 0)
        yield descriptor
    finally:
        os.close(descriptor)


def _taken(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _runs(pid: int) -> bool:
    """Whether there is such a process, beyond a zombie that nobody has waited for."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return False
    return status.rpartition(")")[2].split()[:1] != ["Z"]


def _pid_in(holder: str) -> int | None:
    first = holder.partition(" ")[0]
    return int(first) if first.isascii() and first.isdigit() else None
