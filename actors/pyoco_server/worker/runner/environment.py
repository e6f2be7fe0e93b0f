"""Which environment variables a child gets, and which a flow can ask for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
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
_NEVER_EXPOSED_PREFIXES: Final = ("NATS_", "PYOCO_NATS_", "PYOCO_AUTH_")


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
