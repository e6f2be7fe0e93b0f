"""Serves the application on a socket, inside the caller's nursery."""

from __future__ import annotations

import resource
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial

import structlog
import trio

from pyoco_http.app import GatewayApp, create_app
from pyoco_http.browsers import is_loopback
from pyoco_http.connection import HttpConnection, refuse
from pyoco_http.departures import Departures
from pyoco_server.backend import Backend, NotReady
from pyoco_server.settings import Settings

log = structlog.get_logger(__name__)

# Answers to what was asked before the stop.
_GRACE_SECONDS = 3.0
_BACKLOG = 1024
# Connections that are told why they are refused at the same time; more are just closed.
_REFUSED_AT_ONCE = 32
# Descriptors that are needed beside those of connections: NATS, files, slots.
_OTHER_DESCRIPTORS = 256


class PortBusy(OSError):
    """Another program listens on the port already."""


class OpenToAll(ValueError):
    """Others could reach the gateway and no key is asked for."""


async def serve_http(
    backend: Backend,
    *,
    host: str,
    port: int,
    task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until cancelled; started with the base URL, such as ``http://127.0.0.1:8000``.

    The port opens when the backend is ready, so that whoever is answered can submit; where that takes longer
    than ``startup_wait_sec``, it opens nevertheless, and what cannot be done yet is answered with 503.

    Cancelled, it stops accepting, ends event streams, lets other answers end for up to 3 seconds and
    returns.

    Args:
        backend: What the application asks.
        host: Address to listen on.
        port: Port to listen on; 0 takes a free one.
        task_status: For `trio.Nursery.start`.

    Raises:
        PortBusy: The address is taken.
        OpenToAll: Others could reach it, no key is asked for, and the settings do not insist.
    """
    check_exposure(host, backend.settings)
    with _bound(host, port) as listener:
        with suppress(NotReady):
            await backend.wait_ready(within=backend.settings.startup_wait_sec)
        with _port_busy(host, port):
            listener.listen(_BACKLOG)
        shown = f"[{host}]" if ":" in host else host
        url = f"http://{shown}:{listener.getsockname()[1]}"
        app = create_app(backend, loopback=is_loopback(host))
        await _serve(app, backend, trio.socket.from_stdlib_socket(listener), url, task_status)


async def _serve(
    app: GatewayApp,
    backend: Backend,
    listener: trio.socket.SocketType,
    url: str,
    task_status: trio.TaskStatus[str],
) -> None:
    server = _Server(app, backend)
    stopping = trio.Event()
    async with trio.open_nursery() as nursery:
        app.nursery = nursery
        await app.startup()
        with trio.CancelScope(shield=True) as shield:
            async with trio.open_nursery() as serving:
                nursery.start_soon(_set_on_cancel, stopping, shield)
                serving.start_soon(server.serve, trio.SocketListener(listener), stopping)
                task_status.started(url)
            await app.shutdown()


def check_exposure(host: str, settings: Settings) -> None:
    """Make sure that nobody else can reach a gateway that asks for no keys, unless that is wanted.

    Raises:
        OpenToAll: They can.
    """
    keyed = settings.http_auth_mode == "api_key"
    if keyed or settings.http_insecure_bind or is_loopback(host):
        return
    raise OpenToAll(
        f"refusing to listen on {host}, where others can reach it, without API keys: whoever can submit a "
        "run, runs code here"
    )


async def _set_on_cancel(stopping: trio.Event, shield: trio.CancelScope) -> None:
    try:
        await trio.sleep_forever()
    finally:
        stopping.set()
        shield.deadline = trio.current_time() + 2 * _GRACE_SECONDS


class _Server:
    """Accepts connections, as many as there may be, and knows them until they are closed."""

    def __init__(self, app: GatewayApp, backend: Backend) -> None:
        self._app = app
        self._settings = backend.settings
        self._departures = Departures()
        self._open: set[HttpConnection] = set()
        self._refusing = 0
        self._most = _room_for(self._settings.http_max_connections)

    async def serve(self, listener: trio.SocketListener, stopping: trio.Event) -> None:
        """Serve until ``stopping``, then as long as answers under way take."""
        async with trio.open_nursery() as connections:
            connections.start_soon(self._departures.look)
            async with trio.open_nursery() as accepting:
                accepting.start_soon(
                    partial(
                        trio.serve_listeners,
                        self._serve_one,
                        [listener],
                        handler_nursery=connections,
                    )
                )
                await stopping.wait()
                accepting.cancel_scope.cancel()
            self._app.event_streams.stop()
            for connection in self._open:
                connection.stop()
            connections.start_soon(self._abort_late, connections)

    async def _abort_late(self, connections: trio.Nursery) -> None:
        deadline = trio.current_time() + _GRACE_SECONDS
        # Nothing announces the end of the last of them.
        while self._open and trio.current_time() < deadline:  # noqa: ASYNC110
            await trio.sleep(0.01)
        for connection in self._open:
            connection.abort()
        connections.cancel_scope.cancel()

    async def _serve_one(self, stream: trio.SocketStream) -> None:
        if len(self._open) >= self._most:
            await self._refuse(stream)
            return
        connection = HttpConnection(self._app, self._settings, self._departures, stream)
        self._open.add(connection)
        try:
            await connection.run()
        except Exception:
            log.exception("connection failed")
        finally:
            self._open.discard(connection)

    async def _refuse(self, stream: trio.SocketStream) -> None:
        if self._refusing >= _REFUSED_AT_ONCE:
            await trio.aclose_forcefully(stream)
            return
        self._refusing += 1
        try:
            await refuse(stream, 503)
        finally:
            self._refusing -= 1


def _room_for(wanted: int) -> int:
    """How many connections the process has descriptors for; its soft limit is raised for them."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = wanted + _OTHER_DESCRIPTORS
    if soft < needed and soft != resource.RLIM_INFINITY:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft == resource.RLIM_INFINITY:
        return wanted
    most = min(wanted, max(soft - _OTHER_DESCRIPTORS, soft // 2))
    if most < wanted:
        log.warning("fewer connections than set", most=most, set=wanted, descriptors=soft)
    return most


def _bound(host: str, port: int) -> socket.socket:
    """A socket that has the address, which nobody can connect to before it listens."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        with _port_busy(host, port):
            bound.bind((host, port))
    except BaseException:  # whatever it was: the socket must not stay open
        bound.close()
        raise
    return bound


@contextmanager
def _port_busy(host: str, port: int) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise PortBusy(error.errno, f"cannot listen on {host}:{port}: {error.strerror}") from None
