"""Serves the application on hypercorn, inside the caller's nursery."""

from __future__ import annotations

import logging
import socket
from typing import Any, cast

import trio
from hypercorn.config import Config
from hypercorn.trio import serve

from pyoco_http.app import create_app
from pyoco_server.backend import Backend

# Answers to what was asked before the stop; open event streams are cut after it.
_GRACE_SECONDS = 3.0


class PortBusy(OSError):
    """Another program listens on the port already."""


async def serve_http(
    backend: Backend,
    *,
    host: str,
    port: int,
    task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until cancelled; started with the base URL, such as ``http://127.0.0.1:8000``.

    Cancelled, it stops accepting, lets answers end for up to 3 seconds and returns.

    Args:
        backend: What the application asks.
        host: Address to listen on.
        port: Port to listen on; 0 takes a free one.
        task_status: For `trio.Nursery.start`.

    Raises:
        PortBusy: The address is taken.
    """
    config = Config()
    listener = _bind(host, port)
    shown = f"[{host}]" if ":" in host else host
    url = f"http://{shown}:{listener.getsockname()[1]}"
    # hypercorn makes a socket of its own from the descriptor, and closes it.
    config.bind = [f"fd://{listener.detach()}"]
    config.accesslog = None
    config.errorlog = logging.getLogger("pyoco_http.hypercorn")
    config.graceful_timeout = _GRACE_SECONDS
    config.keep_alive_max_requests = 1_000_000_000
    config.include_server_header = False
    stopping = trio.Event()
    async with trio.open_nursery() as nursery:
        with trio.CancelScope(shield=True) as shield:
            async with trio.open_nursery() as serving:
                await serving.start(_serve, create_app(backend), config, stopping)
                task_status.started(url)
                nursery.start_soon(_stop_on_cancel, stopping, shield)
                await stopping.wait()


async def _serve(app: Any, config: Config, stopping: trio.Event, *, task_status: Any) -> None:
    await serve(cast(Any, app), config, shutdown_trigger=stopping.wait, task_status=task_status)


async def _stop_on_cancel(stopping: trio.Event, shield: trio.CancelScope) -> None:
    try:
        await trio.sleep_forever()
    finally:
        stopping.set()
        shield.deadline = trio.current_time() + 2 * _GRACE_SECONDS


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(1024)
    except OSError as error:
        listener.close()
        raise PortBusy(error.errno, f"cannot listen on {host}:{port}: {error.strerror}") from None
    listener.setblocking(False)
    return listener
