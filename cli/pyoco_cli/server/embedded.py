"""The NATS node that `up --with-nats-bootstrap` and `dev` run: where its data, log and process id are."""

from __future__ import annotations

import sys
import tempfile
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from pyoco_cli.configuration import state_folder
from pyoco_server.node import Node, open_node
from pyoco_server.settings import Settings

NatsStore: TypeAlias = Annotated[
    Path | None,
    typer.Option(help="Folder of its data; nats in PYOCO_STATE_DIR by default."),
]
NatsSync: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--nats-sync/--no-nats-sync",
        help="Write to the disk before acknowledging; without, a power cut can take two minutes.",
    ),
]


def node_in_state_dir(
    settings: Settings,
    *,
    host: str,
    port: int,
    monitor_port: int | None = None,
    store: Path | None = None,
    sync_always: bool = True,
) -> AbstractAsyncContextManager[Node]:
    """A node with its data, log and process id under the state folder.

    Says on stderr when that is a folder which the machine empties.

    Raises:
        CliError: The state folder cannot be used.
    """
    state = state_folder(settings)
    store = store or state / "nats"
    if store.resolve().is_relative_to(Path(tempfile.gettempdir()).resolve()):
        sys.stderr.write(
            f"data are kept in {store.resolve()}, a temporary folder: a restart of this machine "
            "may empty it (--nats-store or PYOCO_STATE_DIR names another)\n"
        )
    return open_node(
        store_dir=store,
        host=host,
        port=port,
        monitor_port=monitor_port,
        sync_always=sync_always,
        log_file=state / "nats-server.log",
        pid_file=state / "nats-server.pid",
    )
