"""Unpacking one wheel into a folder, after it was checked."""

from __future__ import annotations

import compileall
import configparser
import errno
import platform
import sys
import warnings
from pathlib import Path
from typing import Final

from installer import install
from installer.destinations import SchemeDictionaryDestination
from installer.exceptions import InstallerError
from installer.sources import WheelFile
from installer.utils import get_launcher_kind

from pyoco_server.model.wheel import WheelName
from pyoco_server.model.wheel_archive import BadWheel, check_archive

_SCHEMES: Final = {
    "purelib": "",
    "platlib": "",
    "headers": "include",
    "scripts": "bin",
    "data": "data",
}
# What a wheel's own paths lead to; any other error is the machine's.
_OF_PATHS: Final = frozenset({errno.EEXIST, errno.EISDIR, errno.ENAMETOOLONG, errno.ENOTDIR})


def install_wheel(archive: Path, name: WheelName, target: Path) -> None:
    """Check a wheel and unpack it; modules come to lie in the folder itself, byte-compiled.

    It blocks, for as long as its size takes.

    Args:
        archive: The wheel, under its own file name.
        name: That name.
        target: An empty folder.

    Raises:
        BadWheel: It is not what its name says, or not for this Python.
        OSError: It cannot be read, or not be unpacked here.
    """
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
    try:
        with warnings.catch_warnings():
            # installer tells of each __pycache__ file that it leaves out.
            warnings.simplefilter("ignore", RuntimeWarning)
            with WheelFile.open(archive) as source:
                install(source, destination, {"INSTALLER": b"pyoco-server\n"})
    except OSError as error:
        if error.errno not in _OF_PATHS:
            raise
        raise BadWheel(f"it cannot be installed: {error}") from None
    except AssertionError:  # installer's word for it
        raise BadWheel("it cannot be installed: an entry point is no module:function") from None
    except (InstallerError, configparser.Error, ValueError, KeyError) as error:
        raise BadWheel(f"it cannot be installed: {error}") from None
    # Not by installer, which prints what a template or a file for another Python has wrong.
    compileall.compile_dir(target, quiet=2)
