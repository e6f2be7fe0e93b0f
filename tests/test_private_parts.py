"""The parts of our dependencies that they promise nobody, and that we use: each is where we look for it.

Where a test fails, the new version has moved that part. What uses it has to follow; the upper bound of the
dependency in pyproject.toml is there until somebody has looked.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from importlib.metadata import requires, version
from typing import Any, Final

import pytest
import trio_asyncio
from hypercorn.config import Config
from hypercorn.protocol.http_stream import ASGIHTTPState, HTTPStream
from hypercorn.trio.task_group import TaskGroup
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.utils import wrap_app
from nats.aio.client import Client
from nats.aio.transport import TcpTransport
from packaging.requirements import Requirement
from quart.wrappers.request import Request
from quart_trio import QuartTrio
from quart_trio.asgi import TrioASGIHTTPConnection
from trio_asyncio._loop import _FakedPolicy

DEPENDENCIES: Final = ("nats-py", "hypercorn", "quart", "quart-trio", "trio-asyncio")


def takes(function: Callable[..., Any], *names: str) -> bool:
    """Whether a function takes these arguments, in this order, and no others."""
    return tuple(inspect.signature(function).parameters) == names


def source(of: Callable[..., Any]) -> str:
    return inspect.getsource(of)


PARTS: Final[dict[str, Callable[[], bool]]] = {
    # jetstream/session.py
    "nats-py: Client()._transport": lambda: hasattr(Client(), "_transport"),
    "nats-py: Client()._reading_task": lambda: hasattr(Client(), "_reading_task"),
    "nats-py: Client()._flusher_task": lambda: hasattr(Client(), "_flusher_task"),
    "nats-py: TcpTransport()._io_writer": lambda: (
        "self._io_writer" in source(TcpTransport.__init__)
    ),
    # jetstream/asyncio_loop.py
    "trio-asyncio: _loop._FakedPolicy.policy": lambda: vars(_FakedPolicy).get("policy") is not None,
    "trio-asyncio: TrioEventLoop._q_recv": lambda: (
        "self._q_recv" in source(trio_asyncio.BaseTrioEventLoop.__init__)
    ),
    "trio-asyncio: TrioEventLoop.synchronize, behind each event": lambda: (
        "self.synchronize()" in (source(trio_asyncio.BaseTrioEventLoop._io_task))
    ),
    # http/connection.py
    "hypercorn: HTTPStream(…)": lambda: takes(
        HTTPStream,
        *("app", "config", "context", "task_group", "ssl", "client", "server", "send", "stream_id"),
    ),
    "hypercorn: HTTPStream._send_error_response(status_code)": lambda: takes(
        HTTPStream._send_error_response, "self", "status_code"
    ),
    "hypercorn: HTTPStream asks _send_error_response": lambda: (
        "self._send_error_response(500)" in (source(HTTPStream.app_send))
    ),
    "hypercorn: HTTPStream.handle(event)": lambda: takes(HTTPStream.handle, "self", "event"),
    "hypercorn: ASGIHTTPState.CLOSED": lambda: hasattr(ASGIHTTPState, "CLOSED"),
    "hypercorn: TaskGroup()": lambda: takes(TaskGroup) and hasattr(TaskGroup, "__aenter__"),
    "hypercorn: WorkerContext(max_requests)": lambda: takes(WorkerContext, "max_requests"),
    "hypercorn: wrap_app(app, wsgi_max_body_size, mode)": lambda: takes(
        wrap_app, "app", "wsgi_max_body_size", "mode"
    ),
    "hypercorn: Config.max_app_queue_size": lambda: hasattr(Config, "max_app_queue_size"),
    # http/exchange.py, http/app.py, http/bodies.py
    "quart: ASGIHTTPConnection._create_request_from_scope(send)": lambda: takes(
        TrioASGIHTTPConnection._create_request_from_scope, "self", "send"
    ),
    "quart: ASGIHTTPConnection._send_response(send, response)": lambda: takes(
        TrioASGIHTTPConnection._send_response, "self", "send", "response"
    ),
    "quart: Request makes its body_class of two sizes": lambda: (
        "self.body_class(self.content_length, max_content_length)" in source(Request.__init__)
    ),
    "quart-trio: QuartTrio.asgi_http_class": lambda: hasattr(QuartTrio, "asgi_http_class"),
    "quart-trio: TrioASGIHTTPConnection(app, scope)": lambda: takes(
        TrioASGIHTTPConnection, "app", "scope"
    ),
}


@pytest.mark.parametrize("part", PARTS)
def test_it_is_still_there(part: str) -> None:
    assert PARTS[part](), f"{part} is gone; what uses it has to follow"


@pytest.mark.parametrize("name", DEPENDENCIES)
def test_no_later_version_comes_unseen(name: str) -> None:
    (ours,) = (r for r in map(Requirement, requires("pyoco-server") or []) if r.name == name)
    bounds = [part.operator for part in ours.specifier]
    assert "<" in bounds, f"{name} has no upper bound"
    assert ours.specifier.contains(version(name))


def test_every_dependency_has_its_parts_named() -> None:
    assert {re.split(": ", part)[0] for part in PARTS} == set(DEPENDENCIES)
