"""Processes that carry a mark in their arguments, whoever their parents are."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import trio


def alive_with(mark: str) -> list[str]:
    """What has this text among its arguments, and has not ended."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            with suppress(OSError):
                line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                if mark in line and is_alive(int(folder.name)):
                    found.append(f"{folder.name}: {line}")
    return found


def is_alive(pid: int) -> bool:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return False
    # Its first thread may end before others.
    return fields[0] not in "ZX" or int(fields[17]) > 1


async def gone(pid: int) -> None:
    """Wait until a process has ended with all of its threads, though nobody has waited for it yet."""
    with suppress(ProcessLookupError):
        pidfd = os.pidfd_open(pid)
        try:
            with trio.fail_after(60):
                await trio.lowlevel.wait_readable(pidfd)
        finally:
            os.close(pidfd)


async def appeared(mark: str) -> None:
    with trio.fail_after(60):
        while not alive_with(mark):
            await trio.sleep(0.01)


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
