"""Removes folders that runs have used, whatever is in them."""

from __future__ import annotations

import shutil
import subprocess
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Final

_SECONDS: Final = 60.0


def remove_folder(path: Path) -> None:
    """Remove a folder with all that is in it, or what stands in its place; blocks.

    What cannot be removed has another name afterwards, so that nobody takes it for his.
    """
    with suppress(OSError):
        path.unlink()  # a link, or what else is no folder
    with suppress(OSError, RecursionError):  # of rmtree: one level of calls for each folder
        shutil.rmtree(path)
    if path.is_dir():
        # Neither is stopped by depth, or by a folder that its owner has closed; they follow no link.
        for argv in (["chmod", "-R", "u+rwx"], ["rm", "-rf"]):
            with suppress(OSError, subprocess.SubprocessError):
                subprocess.run(  # noqa: S603 - programs of the system
                    [*argv, "--", str(path)], capture_output=True, check=False, timeout=_SECONDS
                )
    if path.is_dir():
        with suppress(OSError):
            path.rename(path.with_name(f"{path.name}.left-{uuid.uuid4().hex}"))
