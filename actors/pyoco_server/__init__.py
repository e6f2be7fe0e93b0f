"""Run Pyoco workflows on many machines: the backend, everything that works without a web server.

The names below load on first use, so that a slot's child process does not pay for what it never needs.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyoco_server.backend import Backend, open_backend
    from pyoco_server.client.sync import PyocoHttpClient
    from pyoco_server.gateway.new_run import NewRun
    from pyoco_server.logs import configure_logging
    from pyoco_server.model.flow.task_policy import NonRetryable, RetryAfter, policy
    from pyoco_server.progress import report
    from pyoco_server.settings import Settings
    from pyoco_server.settings import Settings as NatsBackendConfig
    from pyoco_server.worker.tree import WorkerOptions

_HOMES = {
    "Backend": "pyoco_server.backend",
    "NatsBackendConfig": "pyoco_server.settings",
    "NewRun": "pyoco_server.gateway.new_run",
    "NonRetryable": "pyoco_server.model.flow.task_policy",
    "PyocoHttpClient": "pyoco_server.client.sync",
    "RetryAfter": "pyoco_server.model.flow.task_policy",
    "Settings": "pyoco_server.settings",
    "WorkerOptions": "pyoco_server.worker.tree",
    "configure_logging": "pyoco_server.logs",
    "open_backend": "pyoco_server.backend",
    "report": "pyoco_server.progress",
    "policy": "pyoco_server.model.flow.task_policy",
}

# What 0.5.1 called it.
_OLD_NAMES = {"NatsBackendConfig": "Settings"}

__all__ = [
    "Backend",
    "NatsBackendConfig",
    "NewRun",
    "NonRetryable",
    "PyocoHttpClient",
    "RetryAfter",
    "Settings",
    "WorkerOptions",
    "configure_logging",
    "open_backend",
    "policy",
    "report",
]


def __getattr__(name: str) -> Any:
    try:
        home = _HOMES[name]
    except KeyError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
    return getattr(import_module(home), _OLD_NAMES.get(name, name))
