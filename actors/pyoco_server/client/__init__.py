"""The Python client of the HTTP API.

The names below load on first use, because httpx alone takes a good part of a second.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyoco_server.client.aio import AsyncPyocoHttpClient
    from pyoco_server.client.download import DamagedDownload
    from pyoco_server.client.problem import HttpProblem
    from pyoco_server.client.requests import UnexpectedAnswer, UnsendableValue, new_idempotency_key
    from pyoco_server.client.retry import RetryPolicy
    from pyoco_server.client.sync import PyocoHttpClient

_HOMES = {
    "AsyncPyocoHttpClient": "aio",
    "DamagedDownload": "download",
    "HttpProblem": "problem",
    "PyocoHttpClient": "sync",
    "RetryPolicy": "retry",
    "UnexpectedAnswer": "requests",
    "UnsendableValue": "requests",
    "new_idempotency_key": "requests",
}

__all__ = [
    "AsyncPyocoHttpClient",
    "DamagedDownload",
    "HttpProblem",
    "PyocoHttpClient",
    "RetryPolicy",
    "UnexpectedAnswer",
    "UnsendableValue",
    "new_idempotency_key",
]


def __getattr__(name: str) -> Any:
    try:
        home = _HOMES[name]
    except KeyError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
    return getattr(import_module(f"{__name__}.{home}"), name)
