"""Unpacking one wheel into a folder, after it was checked."""

from __future__ import annotations

import compileall
import errno
import platform
import sys
import warnings
from pathlib import Path
from typing import Final

from installer import install
from installer.destinations import SchemeDictionaryDestination
from installer.sources import WheelFile
from installer.utils import get_launcher_kind

from pyoco_server.model.wheel import WheelName
from pyoco_server.model.wheel_archive import BadWheel, check_archive, read_text

_SCHEMES: Final = {
    "purelib": "",
    "platlib": "",
    "headers": "include",
    "scripts": "bin",
    "data": "data",
}
_WANT_OF_ROOM: Final = frozenset(
    {
        errno.ENOSPC,
        errno.EDQUOT,
        errno.EMFILE,
        errno.ENFILE,
        errno.EAGAIN,
        errno.ENOMEM,
        errno.EIO,
    }
)
# A larger source is compiled by whoever imports it: each megabyte takes a second, in which nothing else
# moves in this process, and hundreds of megabytes of memory.
_MOST_COMPILED_BYTES: Final = 1024 * 1024


class _Importable(WheelFile):
    """A wheel to be imported from: none of its entry points becomes a script, which nobody would find."""

    @property
    def dist_info_filenames(self) -> list[str]:
        """What of its metadata is more than a file to be unpacked: nothing."""
        return []

    def read_dist_info(self, filename: str) -> str:
        """Read a text of its metadata."""
        return read_text(self._zipfile, self._zipfile.getinfo(f"{self.dist_info_dir}/{filename}"))


def is_want_of_room(error: Exception) -> bool:
    """Whether it is the machine that has no room for a wheel; else the wheel is to blame."""
    return isinstance(error, OSError) and error.errno in _WANT_OF_ROOM


def install_wheel(archive: Path, name: WheelName, target: Path) -> None:
    """Check a wheel and unpack it; modules come to lie in the folder itself, byte-compiled.

    It blocks, for as long as its size takes.

    Args:
        archive: The wheel, under its own file name.
        name: That name.
        target: An empty folder.

    Raises:
        BadWheel: It is not what its name says, not for this Python, or cannot be unpacked.
        OSError: There is no room for it.
    """
    try:
        _install(archive, name, target)
    except BadWheel:
        raise
    except Exception as error:
        if is_want_of_room(error):
            raise
        reason = f"it cannot be installed: {type(error).__name__}: {error}"
        raise BadWheel(reason) from None


def _install(archive: Path, name: WheelName, target: Path) -> None:
    with archive.open("rb") as file:
        wanted = check_archive(file, name)
    python = platform.python_version()
    if wanted is not None and not wanted.contains(python, prereleases=True):
        raise BadWheel(f"it is for Python {wanted}, and this is {python}")
    destination = SchemeDictionaryDestination(
        scheme_dict={scheme: str(target / folder) for scheme, folder in _SCHEMES.items()},
        interpreter=sys.executable,
        script_kind=get_launcher_kind(),
    )
    with warnings.catch_warnings():
        # installer tells of each __pycache__ file that it leaves out.
        warnings.simplefilter("ignore", RuntimeWarning)
        with _Importable.open(archive) as source:
            install(source, destination, {"INSTALLER": b"pyoco-server\n"})
    # Not by installer, which prints what a template or a file for another Python has wrong.
    for source_file in target.rglob("*.py"):
        if source_file.stat().st_size <= _MOST_COMPILED_BYTES:
            compileall.compile_file(source_file, quiet=2)
