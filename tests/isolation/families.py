"""Processes that carry a mark in their arguments, whoever their parents are."""

from __future__ import annotations

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
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


async def gone(pid: int) -> None:
    with trio.fail_after(60):
        while is_alive(pid):
            await trio.sleep(0.01)


async def appeared(mark: str) -> None:
    with trio.fail_after(60):
        while not alive_with(mark):
            await trio.sleep(0.01)


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
