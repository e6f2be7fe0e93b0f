"""A task whose attempts look for each other, and start processes; untyped, as most users' are."""

# mypy: ignore-errors
# ruff: noqa: PTH123, SIM115

import fcntl
import json
import os
import time
from pathlib import Path

import spawns

from isolation.ways import WAYS

KEPT = []


def alive_of_others(mark, attempt):
    found = []
    for folder in Path("/proc").iterdir():
        try:
            line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
        except (OSError, UnicodeDecodeError):
            continue
        if (
            f"{mark} attempt=" in line
            and f"{mark} attempt={attempt} " not in line + " "
            and state not in "ZX"
        ):
            found.append(f"{folder.name}: {line}")
    return found


def note(folder, **what):
    with open(f"{folder}/told", "a") as file:
        file.write(json.dumps({"at": time.monotonic(), **what}) + "\n")


def attempt(folder, way):
    """Tell of all that is there of another attempt; the first one stays until it is killed."""
    number = int(os.environ["PYOCO_RUN_ATTEMPT"])
    lock = open(f"{folder}/lock", "w")
    KEPT.append(lock)
    beside = alive_of_others(folder, number)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        beside.append("the task code of another attempt, or a copy of it")
    note(folder, attempt=number, began=os.getpid(), beside=beside)
    mark = f"{folder} attempt={number}"
    if number > 1:
        getattr(spawns, way)(mark, False) if way != "run" else None
        beside = alive_of_others(folder, number)
        note(folder, attempt=number, ended=os.getpid(), beside=beside)
        return number
    return getattr(spawns, way)(mark, True)


assert len(WAYS) == 8
