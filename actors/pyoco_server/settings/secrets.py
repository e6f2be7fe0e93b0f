"""Secrets of settings: read from files, and taken out of the environment once they are known.

A process's first environment stays readable in ``/proc/<pid>/environ`` whatever it unsets (proc(5)), for
root and for processes of its own user, so that its memory is overwritten.
"""

from __future__ import annotations

import ctypes
import os
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

FILE_SUFFIX: Final = "_FILE"
"""What the variable is called that names the file of a secret, after the secret's own name."""

_ALWAYS: Final = ("PYOCO_API_KEY",)
# Of /proc/self/stat, counted behind the name in parentheses: where the environment begins and ends.
_ENV_START, _ENV_END = 47, 48
_PR_SET_DUMPABLE = 4


def read_secret(name: str, get: Callable[[str], str | None], cwd: Path) -> str | None:
    """Return a secret from the file that ``<name>_FILE`` names, else from systemd's credential of that name.

    Args:
        name: The secret's variable.
        get: Looks a variable up.
        cwd: Where relative paths start.

    Raises:
        OSError: The file cannot be read.
        UnicodeDecodeError: It is not UTF-8.
    """
    if file := (get(name + FILE_SUFFIX) or "").strip():
        path = cwd / Path(file).expanduser()
    elif folder := get("CREDENTIALS_DIRECTORY"):
        path = Path(folder) / name
        if not path.is_file():
            return None
    else:
        return None
    # What an editor puts at the end of a file is not meant.
    return path.read_text(encoding="utf-8").removesuffix("\n").removesuffix("\r")


def forget(secrets: Mapping[str, Callable[[str], bool]]) -> None:
    """Take secrets out of this process's environment, and out of what /proc shows of it.

    Args:
        secrets: By variable, whether a text is one.
    """
    secrets = {**dict.fromkeys(_ALWAYS, bool), **secrets}
    names = [name for name, is_one in secrets.items() if is_one(os.environ.get(name, ""))]
    for name in names:
        del os.environ[name]
    if names:
        _overwrite(names)


def _overwrite(names: list[str]) -> None:
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    start, end = int(fields[_ENV_START]), int(fields[_ENV_END])
    if not 0 < start < end:  # the kernel shows none
        return
    pattern = "|".join(map(re.escape, names)).encode()
    for found in re.finditer(
        rb"(?:^|\0)(?:%s)=([^\0]*)" % pattern, ctypes.string_at(start, end - start)
    ):
        ctypes.memset(start + found.start(1), ord("x"), len(found[1]))


def keep_to_itself() -> None:
    """Keep other processes of this user, but for root's, from reading what this one has in memory.

    Its files in /proc belong to root then, and it can be neither traced nor dump its core (prctl(2)). What
    it starts is as usual. Linux only; elsewhere nothing happens.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
