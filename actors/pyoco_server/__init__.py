"""Run Pyoco workflows on many machines: the backend, everything that works without a web server.

The names below load on first use, so that a slot's child process does not pay for what it never needs.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyoco_server.backend import Backend, open_backend
    from pyoco_server.gateway.submitter import NewRun
    from pyoco_server.logs import configure_logging
    from pyoco_server.settings import Settings
    from pyoco_server.worker.tree import WorkerOptions

_HOMES = {
    "Backend": "pyoco_server.backend",
    "NewRun": "pyoco_server.gateway.submitter",
    "Settings": "pyoco_server.settings",
    "WorkerOptions": "pyoco_server.worker.tree",
    "configure_logging": "pyoco_server.logs",
    "open_backend": "pyoco_server.backend",
}

__all__ = ["Backend", "NewRun", "Settings", "WorkerOptions", "configure_logging", "open_backend"]


def __getattr__(name: str) -> Any:
    try:
        home = _HOMES[name]
    except KeyError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
    return getattr(import_module(home), name)
