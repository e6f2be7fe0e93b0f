"""What the kernel holds of a process, which one run could leave to the next: names, rights, signals."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from pyoco_server.worker.runner import libc
from pyoco_server.worker.runner.parts import ProcessPart

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
            libc.dumpable(),
            libc.timer_slack(),
            libc.death_signal(),
        )

    def _put(self, fresh: tuple[Any, ...]) -> None:
        (name, *_), oom, dumpable, slack, death = fresh
        libc.set_name(name.removeprefix(_NAME).rstrip(b"\n"))
        with suppress(OSError):
            Path(_OOM_SCORE).write_bytes(oom)
        libc.set_dumpable(dumpable)
        libc.set_timer_slack(slack)
        libc.set_death_signal(death)
