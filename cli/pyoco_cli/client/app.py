"""The commands, the options before them, and what each says about its output."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import import_module
from typing import Annotated, Any, TypeAlias

import typer

from pyoco_cli.client.connection import DEFAULT_HEADER, DEFAULT_SERVER, GatewayAddress
from pyoco_cli.client.profile import with_profile
from pyoco_cli.common.commands import Version, program
from pyoco_cli.common.formats import OutputFormat, OutputOption, chosen, items_of, print_rows
from pyoco_cli.common.output import make_console, print_json

__all__ = ["CursorOption", "OutputFormat", "OutputOption", "RunId", "app", "draw", "show"]


RunId: TypeAlias = Annotated[
    str, typer.Argument(metavar="RUN_ID", help="Id of the run, or its beginning.")
]

CursorOption: TypeAlias = Annotated[
    str | None, typer.Option(help="Where to go on: next_cursor of the page before.")
]

_COMMANDS = {
    "submit": "pyoco_cli.client.submit:submit",
    "submit-yaml": "pyoco_cli.client.submit:submit_yaml",
    "check": "pyoco_cli.client.check:check",
    "schema": "pyoco_cli.client.check:schema",
    "get": "pyoco_cli.client.runs:get",
    "tasks": "pyoco_cli.client.runs:tasks",
    "list": "pyoco_cli.client.listing:list_runs",
    "list-vnext": "pyoco_cli.client.listing:list_vnext",
    "watch": "pyoco_cli.client.watch:watch",
    "wait": "pyoco_cli.client.watch:wait",
    "logs": "pyoco_cli.client.logs:logs",
    "events": "pyoco_cli.client.logs:events",
    "artifacts": "pyoco_cli.client.artifacts:artifacts",
    "cancel": "pyoco_cli.client.cancel:cancel",
    "result": "pyoco_cli.client.runs:result",
    "reschedule": "pyoco_cli.client.runs:reschedule",
    "retry": "pyoco_cli.client.dlq:retry",
    "schedule": "pyoco_cli.client.schedule:schedule",
    "workers": "pyoco_cli.client.workers:workers",
    "worker-pause": "pyoco_cli.client.worker_control:worker_pause",
    "worker-resume": "pyoco_cli.client.worker_control:worker_resume",
    "worker-drain": "pyoco_cli.client.worker_control:worker_drain",
    "wheels": "pyoco_cli.client.wheels:wheels",
    "wheel-history": "pyoco_cli.client.wheels:wheel_history",
    "wheel-upload": "pyoco_cli.client.wheels:wheel_upload",
    "wheel-build": "pyoco_cli.client.wheel_build:wheel_build",
    "wheel-delete": "pyoco_cli.client.wheels:wheel_delete",
    "metrics": "pyoco_cli.client.metrics:metrics",
    "whoami": "pyoco_cli.client.whoami:whoami",
    "top": "pyoco_cli.client.top:top",
    "dlq": "pyoco_cli.client.dlq:dlq",
}

app = program("pyoco-client", _COMMANDS)


@app.callback()
def options(
    context: typer.Context,
    server: Annotated[
        str, typer.Option(envvar="PYOCO_SERVER_URL", help="URL of the gateway.")
    ] = DEFAULT_SERVER,
    api_key: Annotated[
        str | None,
        typer.Option(envvar="PYOCO_API_KEY", help="Value of the authentication header."),
    ] = None,
    api_key_header: Annotated[
        str, typer.Option(help="Name of the authentication header.")
    ] = DEFAULT_HEADER,
    profile: Annotated[
        str | None,
        typer.Option(
            envvar="PYOCO_PROFILE", help="Gateway and key of ~/.config/pyoco/client.toml."
        ),
    ] = None,
    version: Version = False,  # noqa: ARG001 - it is printed before
) -> None:
    """Submit, follow and manage runs through a pyoco-server gateway."""
    sources = {
        name: source.name
        for name in context.params
        if (source := context.get_parameter_source(name)) is not None
    }
    given = GatewayAddress(server.strip(), api_key, api_key_header)
    context.obj = with_profile(given, profile, sources)


def show(
    value: Any,
    output: OutputFormat | None,
    view: str = "document",
    *,
    items: Callable[[Any], Iterable[Mapping[str, Any]]] = items_of,
    columns: Sequence[str] = (),
) -> None:
    """Print the result of a command.

    Args:
        value: The JSON document.
        output: What the user asked for; ``None`` for what suits where it goes.
        view: The function of ``views`` that draws it for people. Its name, because importing it
            imports rich, which would cost every command that prints JSON a noticeable time.
        items: What is a line of its own in ``jsonl`` and ``csv``.
        columns: Of CSV, those that come first, and that are there without items.
    """
    match chosen(output):
        case OutputFormat.JSON:
            print_json(value)
        case OutputFormat.JSONL | OutputFormat.CSV as lines:
            print_rows(items(value), lines, columns)
        case _:
            draw(view, value)


def draw(view: str, *values: Any) -> None:
    """Print ``values`` for people, as the function ``view`` of ``views``, or ``module:view``, draws them."""
    module, _, name = view.rpartition(":")
    views = import_module(f"pyoco_cli.client.{module or 'views'}")
    make_console().print(getattr(views, name)(*values))
