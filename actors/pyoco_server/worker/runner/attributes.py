"""What the kernel holds of a process, which one run could leave to the next: names, rights, signals."""

from __future__ import annotations

import ctypes
import os
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from pyoco_server.worker.runner.parts import ProcessPart

_SET_PDEATHSIG, _GET_PDEATHSIG, _GET_DUMPABLE, _SET_DUMPABLE = 1, 2, 3, 4  # prctl(2)
_SET_NAME, _SET_TIMERSLACK, _GET_TIMERSLACK = 15, 29, 30
_NAME: Final = b"Name:\t"
# Name, users, groups, signals that are blocked, ignored or handled, be it by C code, capabilities, filters of
# system calls: what stands between these in /proc/self/status.
_STATUS: Final = (
    (_NAME, b"\n"),
    (b"\nUid:", b"\nFDSize:"),
    (b"\nGroups:", b"\n"),
    (b"\nTHP_enabled:", b"\n"),
    (b"\nSigBlk:", b"\nCpus_allowed:"),
)
_OOM_SCORE: Final = "/proc/self/oom_score_adj"
_LIBC: Final = ctypes.CDLL(None)


class Attributes(ProcessPart):
    """They, as in proc_pid_status(5), oom_score_adj of proc(5) and prctl(2)."""

    def __init__(self) -> None:
        super().__init__("attributes", self._read, self._put)
        self._status = os.open("/proc/self/status", os.O_RDONLY | os.O_CLOEXEC)
        self._oom = os.open(_OOM_SCORE, os.O_RDONLY | os.O_CLOEXEC)

    @property
    def changed(self) -> bool:
        """Whether they are not as they should be."""
        status, *others = self.fresh
        text = os.pread(self._status, 8192, 0)
        # To look for the texts takes less than to cut them out.
        return any(part not in text for part in status) or others != [*self._beyond_status()]

    def _read(self) -> tuple[Any, ...]:
        text = os.pread(self._status, 8192, 0)
        status = [
            begin + text.partition(begin)[2].partition(end)[0] + end
            for begin, end in _STATUS
            if begin in text  # not each kernel tells all
        ]
        return status, *self._beyond_status()

    def _beyond_status(self) -> tuple[Any, ...]:
        return (
            os.pread(self._oom, 16, 0),
            _prctl(_GET_DUMPABLE),
            _prctl(_GET_TIMERSLACK),
            _death_signal(),
        )

    def _put(self, fresh: tuple[Any, ...]) -> None:
        (name, *_), oom, dumpable, slack, death = fresh
        _LIBC.prctl(_SET_NAME, name.removeprefix(_NAME).rstrip(b"\n"), 0, 0, 0)
        with suppress(OSError):
            Path(_OOM_SCORE).write_bytes(oom)
        _prctl(_SET_DUMPABLE, dumpable)
        _prctl(_SET_TIMERSLACK, slack)
        _prctl(_SET_PDEATHSIG, death)


def _prctl(option: int, value: int = 0) -> int:
    return int(_LIBC.prctl(option, value, 0, 0, 0))


def _death_signal() -> int:
    found = ctypes.c_int()
    _LIBC.prctl(_GET_PDEATHSIG, ctypes.byref(found), 0, 0, 0)
    return found.value
