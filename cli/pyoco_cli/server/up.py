"""`pyoco-server up`: the HTTP gateway, with a NATS node of its own if asked for."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager, AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Annotated

import trio
import typer

from pyoco_cli.common.commands import NatsUrl
from pyoco_cli.common.errors import CliError
from pyoco_cli.configuration import collect_seldom, keep_secrets, load_settings, start_failure
from pyoco_cli.server.detach import detach as start_detached
from pyoco_cli.server.detach import this_background
from pyoco_cli.server.embedded import NatsStore, NatsSync, node_in_state_dir
from pyoco_cli.server.exposure import InsecureBind, exposed
from pyoco_cli.signals import stop_signals
from pyoco_http.server import PortBusy, serve_http
from pyoco_server.backend import open_backend
from pyoco_server.background import announced
from pyoco_server.logs import configure_logging
from pyoco_server.node import Node, NodeFailed, in_url
from pyoco_server.settings import Settings
from pyoco_server.settings.environment import without_user


def up(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on.")] = 8000,
    log_level: Annotated[
        str | None,
        typer.Option(
            help="debug, info, warning or error; overrides PYOCO_LOG_LEVEL.", show_default="warning"
        ),
    ] = None,
    nats_url: NatsUrl = None,
    dashboard_lang: Annotated[
        str | None, typer.Option(help="auto, ja or en; overrides PYOCO_DASHBOARD_LANG.")
    ] = None,
    with_nats_bootstrap: Annotated[
        bool, typer.Option("--with-nats-bootstrap", help="Start one NATS node along with it.")
    ] = False,
    nats_listen_host: Annotated[str, typer.Option(help="Where that node listens.")] = "127.0.0.1",
    nats_client_port: Annotated[
        int, typer.Option(min=0, max=65535, help="Its port for clients.")
    ] = 4222,
    nats_http_port: Annotated[
        int, typer.Option(min=0, max=65535, help="Its port for monitoring.")
    ] = 8222,
    nats_store: NatsStore = None,
    nats_sync: NatsSync = True,
    detach: Annotated[
        bool, typer.Option("--detach", help="Run in the background; pyoco-server down ends it.")
    ] = False,
    run_file: Annotated[Path | None, typer.Option(hidden=True)] = None,
    insecure_bind: InsecureBind = False,
) -> None:
    """Start the HTTP gateway."""
    settings = exposed(_settings(log_level, nats_url, dashboard_lang), host, insecure=insecure_bind)
    node_url = f"nats://{in_url(nats_listen_host)}:{nats_client_port}"
    if with_nats_bootstrap:
        if nats_url is not None and nats_url.rstrip("/") != node_url:
            raise CliError(
                f"--nats-url mismatch with managed NATS: expected {node_url}, got {nats_url}",
                hint="leave --nats-url out, or set --nats-listen-host and --nats-client-port",
            )
        settings = settings.for_node(node_url)
    if detach and run_file is None:  # that which is started in the background has one
        raise typer.Exit(start_detached(settings))
    keep_secrets()
    collect_seldom()
    configure_logging(service="pyoco-server:http", settings=settings)
    node = None
    if with_nats_bootstrap:
        node = node_in_state_dir(
            settings,
            host=nats_listen_host,
            port=nats_client_port,
            monitor_port=nats_http_port,
            store=nats_store,
            sync_always=nats_sync,
        )
    raise typer.Exit(trio.run(_serve, settings, host, port, node, run_file))


def _settings(log_level: str | None, nats_url: str | None, dashboard_lang: str | None) -> Settings:
    overrides = {
        "PYOCO_LOG_LEVEL": log_level,
        "PYOCO_NATS_URL": nats_url,
        "PYOCO_DASHBOARD_LANG": dashboard_lang,
    }
    given = {name: value for name, value in overrides.items() if value is not None}
    # As in 0.5.1, what is said of each request is for those who ask for it.
    return load_settings(given, defaults={"PYOCO_LOG_LEVEL": "WARNING"})


async def _serve(
    settings: Settings,
    host: str,
    port: int,
    node: AbstractAsyncContextManager[Node] | None,
    run_file: Path | None,
) -> int:
    try:
        async with stop_signals() as stop, AsyncExitStack() as stack:
            if node is not None:
                running = await stack.enter_async_context(node)
                settings = settings.for_node(running.url)  # at a free port where 0 was asked for
            backend = await stack.enter_async_context(open_backend(settings))
            nursery = await stack.enter_async_context(stop.nursery())
            start = partial(serve_http, backend, host=host, port=port)
            url = await nursery.start(start)
            typer.echo(
                f"pyoco-server listens on {url} (NATS: {without_user(settings.nats_url)})", err=True
            )
            if run_file is not None:
                stack.enter_context(announced(run_file, this_background(url, run_file)))
            await trio.sleep_forever()
    except* (PortBusy, NodeFailed) as group:
        raise start_failure(group, "--port; NATS: --nats-client-port, --nats-http-port") from None
    return stop.exit_code
