"""What a child and its runs find around them: environment variables, and a directory of the run's own."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_INHERITED: Final = frozenset(
    {
        "PATH",
        "HOME",
        "LANG",
        "LANGUAGE",
        "TZ",
        "TMPDIR",
        "PYTHONPATH",
        "PYTHONHOME",
        "VIRTUAL_ENV",
        "LD_LIBRARY_PATH",
        "SSL_CERT_FILE",
        "SSL_CERT_DIR",
        "PYOCO_DISCOVERY_MODULES",
    }
)
_INHERITED_PREFIXES: Final = ("LC_",)
_ENVIRON, _ENVIRONB = os.environ, os.environb
_NEVER_EXPOSED_PREFIXES: Final = (
    "NATS_",
    "PYOCO_NATS_",
    "PYOCO_AUTH_",
    "PYOCO_API_KEY",
    "CREDENTIALS_DIRECTORY",
)


def inherited(environ: Mapping[str, str]) -> dict[str, str]:
    """Return what Python and the plug-ins need; no credentials, whatever they are called."""
    return {
        name: value
        for name, value in environ.items()
        if name in _INHERITED or name.startswith(_INHERITED_PREFIXES)
    }


def exposed(names: Iterable[str], environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that a flow's ``runtime.expose_env`` names, as far as they are set.

    The credentials of the worker itself are not to be had: whoever can submit a flow.yaml would
    else have the message system and the keys of all tenants.
    """
    return {
        name: environ[name]
        for name in names
        if name in environ and not name.startswith(_NEVER_EXPOSED_PREFIXES)
    }


@contextmanager
def surroundings(workdir: str | None, variables: Mapping[str, str]) -> Iterator[None]:
    """Set the current directory and environment variables; restore both, whatever the run did.

    Args:
        workdir: The directory, made when missing; ``None`` for the present one.
        variables: What to set besides the present variables.

    Raises:
        OSError: The directory cannot be made or entered.
    """
    # What `os.environ` stands for, without decoding all of it for each run (CPython's os.py, `_Environ`).
    stored: dict[bytes, bytes] = vars(os.environ)["_data"]
    directory, environment = os.getcwd(), stored.copy()  # noqa: PTH109 - nothing to parse
    try:
        for variable, text in variables.items():
            os.environ[variable] = text
        if workdir is not None:
            try:
                os.chdir(workdir)
            except FileNotFoundError:
                Path(workdir).mkdir(parents=True)
                os.chdir(workdir)
        yield
    finally:
        os.chdir(directory)
        os.environ, os.environb = _ENVIRON, _ENVIRONB
        if stored != environment:
            zone = stored.get(b"TZ")
            for name in stored.keys() - environment.keys():
                del os.environb[name]
            for name, value in environment.items() - stored.items():
                os.environb[name] = value
            if zone != stored.get(b"TZ"):
                time.tzset()  # the C library may have looked at it meanwhile
