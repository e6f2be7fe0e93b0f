"""Control groups of slots, on a system that has delegated one to the worker.

Version 2 only: cgroups(7), https://docs.kernel.org/admin-guide/cgroup-v2.html. Processes may be in groups
without groups below them only, so the worker itself goes into one beside those of its slots.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

import structlog

log = structlog.get_logger(__name__)

_OF_WORKER: Final = "pyoco-worker"
_CONTROLLERS: Final = ("memory", "pids")
# What the worker keeps for itself of the processes and threads that there may be.
_OWN_PIDS: Final = 64


class SlotGroup:
    """The control group of a slot's child and of all that it starts.

    Attributes:
        folder: What the kernel shows of it.
        bounds_memory: Whether it can.

    Args:
        most_pids: How many processes and threads it may have; None for as many as there may be.
    """

    def __init__(self, folder: Path, most_pids: int | None = None) -> None:
        self.folder = folder
        self.bounds_memory = (folder / "memory.max").exists()
        self._most_pids = most_pids
        self._peak: int | None = None

    def renew(self) -> None:
        """Have it be there for the next child, with as much memory as there is.

        It goes with a worker's supervisor, which may start again, and a run may have been cut short while it
        was bounded.

        Raises:
            OSError: It cannot be made.
        """
        self.folder.mkdir(exist_ok=True)
        self.bounds_memory = (self.folder / "memory.max").exists()
        if self.bounds_memory:
            (self.folder / "memory.oom.group").write_text("1")
            self.bound(None)
        if self._most_pids is not None:
            (self.folder / "pids.max").write_text(str(self._most_pids))

    def bound(self, memory_bytes: int | None) -> bool:
        """Let it have so much memory, and no more; None for no limit. Return whether the kernel sees to it.

        That ends all of its processes when they need more.
        """
        most = "max" if memory_bytes is None else str(memory_bytes)
        swap = "max" if memory_bytes is None else "0"
        try:
            with suppress(FileNotFoundError):  # there may be no swap
                (self.folder / "memory.swap.max").write_text(swap)
            (self.folder / "memory.max").write_text(most)
        except OSError as error:
            log.warning("control group not bounded", folder=str(self.folder), reason=str(error))
            return False
        return True

    def cpu_sec(self) -> float:
        """Return the processor time that its processes took in all its life, in seconds.

        Raises:
            OSError: It cannot be read now.
        """
        return self._counts("cpu.stat").get("usage_usec", 0) / 1e6

    def oom_counts(self) -> tuple[int, int]:
        """Return how often it had no memory left, and how many of its processes were killed for want of it.

        They are also where it had some, and a group above it or the machine had none. 0 where the kernel does
        not tell.
        """
        with suppress(OSError):
            counts = self._counts("memory.events")
            return counts.get("oom", 0), counts.get("oom_kill", 0)
        return 0, 0

    def _counts(self, file: str) -> dict[str, int]:
        lines = map(str.split, (self.folder / file).read_text().splitlines())
        return {name: int(count) for name, count in lines}

    def forget_peak(self) -> bool:
        """Measure the most memory that it has from now on. Return whether the kernel does."""
        try:
            if self._peak is None:
                self._peak = os.open(self.folder / "memory.peak", os.O_RDWR | os.O_CLOEXEC)
            os.pwrite(self._peak, b"0", 0)
        except OSError:  # before Linux 6.12
            self._close_peak()
            return False
        return True

    def peak_bytes(self) -> int:
        """Return the most memory that it had since then; 0 where the kernel does not tell."""
        with suppress(OSError, ValueError):
            return 0 if self._peak is None else int(os.pread(self._peak, 32, 0))
        return 0

    def _close_peak(self) -> None:
        if self._peak is not None:
            os.close(self._peak)
            self._peak = None

    def remove(self) -> None:
        """Remove it, if there is no process in it."""
        self._close_peak()
        with suppress(OSError):
            self.folder.rmdir()


class WorkerGroup:
    """The group below which slots have theirs."""

    def __init__(self, folder: Path, slots: int) -> None:
        self._folder = folder
        self._slots = slots
        self._made: list[SlotGroup] = []

    @classmethod
    def of(
        cls, place: str, slots: int, *, process: Path = Path("/proc/self")
    ) -> WorkerGroup | None:
        """Take a group into use, once for each worker; None where there is none to be had.

        Args:
            place: ``auto``, ``off`` or a folder (``PYOCO_WORKER_CGROUP``).
            slots: How many share it.
            process: What the kernel tells of this process.
        """
        if place == "off":
            return None
        try:
            folder = _delegated(process) if place == "auto" else Path(place)
            if folder is None:
                return None
            _share(folder)
        except OSError as error:
            log.warning("no control groups for runs", reason=str(error))
            return None
        log.info("each slot has a control group", folder=str(folder))
        return cls(folder, slots)

    def slot(self, name: str) -> SlotGroup | None:
        """Make the group of a slot; None where that cannot be done."""
        group = SlotGroup(self._folder / name, _most_pids(self._folder, self._slots))
        try:
            group.renew()
        except OSError as error:
            log.warning("no control group for a slot", folder=str(group.folder), reason=str(error))
            return None
        self._made.append(group)
        return group

    def remove(self) -> None:
        """Remove the groups of slots, in which there is no process any more."""
        for group in self._made:
            group.remove()


def _most_pids(folder: Path, slots: int) -> int | None:
    """How many processes and threads a slot may have, so that the worker has some left."""
    with suppress(OSError, ValueError):
        return max(_OWN_PIDS, (int((folder / "pids.max").read_text()) - _OWN_PIDS) // slots)
    return None


def _delegated(process: Path) -> Path | None:
    """The group that this process is in, once nobody is; None where it is not its own."""
    mounted, name = _mount_point(process), _own_name(process)
    if mounted is None or name is None:
        return None
    own = mounted / name.lstrip("/")
    if own.name == _OF_WORKER:  # another worker of this process has been here
        return own.parent
    if "memory" not in (own / "cgroup.controllers").read_text().split():
        return None
    if not os.access(own / "cgroup.subtree_control", os.W_OK):
        return None
    there = (own / "cgroup.procs").read_text().split()
    # A container's has its init and whatever it was started with; another one may be a whole session's.
    of_container = name == "/" and (own / "cgroup.type").exists()
    if there != [str(os.getpid())] and not of_container:
        return None
    leaf = own / _OF_WORKER
    leaf.mkdir(exist_ok=True)
    for pid in there:
        with suppress(ProcessLookupError):
            (leaf / "cgroup.procs").write_text(pid)
    return own


def _share(folder: Path) -> None:
    """Have the groups below a group bound what it may bound."""
    there = (folder / "cgroup.controllers").read_text().split()
    if wanted := [f"+{each}" for each in _CONTROLLERS if each in there]:
        (folder / "cgroup.subtree_control").write_text(" ".join(wanted))


def _mount_point(process: Path) -> Path | None:
    for line in (process / "mountinfo").read_text().splitlines():
        fields, _, kind = line.partition(" - ")
        if kind.startswith("cgroup2 "):
            return Path(fields.split()[4])
    return None


def _own_name(process: Path) -> str | None:
    for line in (process / "cgroup").read_text().splitlines():
        if line.startswith("0::"):
            return line.removeprefix("0::")
    return None
