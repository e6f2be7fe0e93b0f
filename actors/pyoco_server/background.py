"""A program of ours in the background: the file that names it, whether it still runs, and its end."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
# A pidfd becomes readable when its process ends; looked at again for a zombie's sake.
_LOOK_SECONDS = 0.25


class Background(msgspec.Struct, frozen=True, kw_only=True):
    """What the file says of a program in the background.

    A process id alone is not enough: after the program's end another one may have it.
    """

    pid: int
    started: str
    """When that process began, as /proc tells it, and in which life of the machine."""
    url: str
    """Where it answers."""
    log: str
    """Path of its log."""

    @classmethod
    def this_process(cls, *, url: str, log: str) -> Background:
        """This program."""
        return cls(pid=os.getpid(), started=started(os.getpid()) or "", url=url, log=log)

    @property
    def alive(self) -> bool:
        """Whether that very process still runs."""
        return started(self.pid) == self.started

    def stop(self, *, within: float, kill: bool) -> bool:
        """Ask it to end, wait, and return whether it has ended. Blocks.

        Args:
            within: Seconds to wait.
            kill: Whether it is killed when it has not ended by then.
        """
        try:
            pidfd = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return True
        try:
            # Looked at with the descriptor open, which can only mean that one process.
            if not self.alive:
                return True
            signal.pidfd_send_signal(pidfd, signal.SIGTERM)
            if not self._wait(pidfd, within) and kill:
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
                self._wait(pidfd, 5.0)
        except ProcessLookupError:
            return True
        finally:
            os.close(pidfd)
        return not self.alive

    def _wait(self, pidfd: int, within: float) -> bool:
        deadline = time.monotonic() + within
        while self.alive and (left := deadline - time.monotonic()) > 0:
            select.select([pidfd], [], [], min(left, _LOOK_SECONDS))
        return not self.alive


def read_background(file: Path) -> Background | None:
    """What the file says; None when there is none, or it says nothing that can be read."""
    try:
        return msgspec.json.decode(file.read_bytes(), type=Background)
    except (FileNotFoundError, NotADirectoryError, msgspec.MsgspecError):
        return None


@contextmanager
def announced(file: Path, background: Background) -> Iterator[None]:
    """Keep the file for the length of the block."""
    file.parent.mkdir(parents=True, exist_ok=True)
    fresh = file.with_name(f"{file.name}.{background.pid}")
    fresh.write_bytes(msgspec.json.encode(background) + b"\n")
    fresh.replace(file)
    try:
        yield
    finally:
        if read_background(file) == background:
            file.unlink()


def started(pid: int) -> str | None:
    """What tells a process from a later one of the same id; None for one that has ended."""
    with suppress(OSError):
        # See proc(5): behind the name in parentheses come the state (3) and, at 22, the start time.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        if fields[0] not in {"Z", "X"}:
            return f"{_BOOT_ID.read_text().strip()} {fields[19]}"
    return None
