"""What is asked of the kernel and of C code by calls that Python has no name for."""

from __future__ import annotations

import ctypes
from typing import Final

# Once: to open it takes longer than what is asked of it, behind each run.
LIBC: Final = ctypes.CDLL(None, use_errno=True)

# Options of prctl(2).
_SET_PDEATHSIG, _GET_PDEATHSIG, _GET_DUMPABLE, _SET_DUMPABLE = 1, 2, 3, 4
_SET_NAME, _SET_TIMERSLACK, _GET_TIMERSLACK = 15, 29, 30
_SET_CHILD_SUBREAPER, _GET_CHILD_SUBREAPER = 36, 37
_CAPABILITY_VERSION_3: Final = 0x20080522
_DETACH: Final = 17  # PTRACE_DETACH of ptrace(2)


def _prctl(option: int, value: int | bytes = 0) -> int:
    told: int = LIBC.prctl(option, value, 0, 0, 0)
    return told


def _told_by_prctl(option: int) -> int:
    found = ctypes.c_int()
    LIBC.prctl(option, ctypes.byref(found), 0, 0, 0)
    return found.value


def death_signal() -> int:
    """Return the signal that this process gets when its parent dies; 0 for none."""
    return _told_by_prctl(_GET_PDEATHSIG)


def set_death_signal(number: int) -> None:
    """Have this process get that signal when its parent dies."""
    _prctl(_SET_PDEATHSIG, number)


def dumpable() -> int:
    """Return whether this process can be traced and leaves a core, as the kernel tells it."""
    return _prctl(_GET_DUMPABLE)


def set_dumpable(value: int) -> None:
    """Have that be so."""
    _prctl(_SET_DUMPABLE, value)


def timer_slack() -> int:
    """Return by how many nanoseconds timers of this thread may be late."""
    return _prctl(_GET_TIMERSLACK)


def set_timer_slack(nanoseconds: int) -> None:
    """Have them be late by no more."""
    _prctl(_SET_TIMERSLACK, nanoseconds)


def set_name(name: bytes) -> None:
    """Name this thread, as lists of processes show it."""
    _prctl(_SET_NAME, name)


def adopts_orphans() -> bool:
    """Return whether this process becomes the parent of what its children leave."""
    return bool(_told_by_prctl(_GET_CHILD_SUBREAPER))


def adopt_orphans() -> None:
    """Have this process become that."""
    _prctl(_SET_CHILD_SUBREAPER, 1)


def drop_capabilities() -> None:
    """Take all capabilities from this process (capabilities(7)).

    Raises:
        OSError: They cannot be taken.
    """
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    if LIBC.capset(header, (ctypes.c_uint32 * 6)()) != 0:
        raise OSError(ctypes.get_errno(), "capset")


def detach(pid: int, signal: int) -> None:
    """Trace a stopped child no longer; it goes on with that signal."""
    LIBC.ptrace(_DETACH, pid, None, signal)


def flush(*, every_file: bool = False) -> None:
    """Write out what C code has printed, or what it holds back of all its files."""
    LIBC.fflush(None if every_file else ctypes.c_void_p.in_dll(LIBC, "stdout"))
