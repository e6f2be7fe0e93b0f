"""`workers`: who is there to run something."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any

import typer

from pyoco_cli.client.app import draw, show
from pyoco_cli.client.connection import gateway
from pyoco_cli.common.formats import OUTPUT_HELP, OutputFormat
from pyoco_cli.common.output import on_terminal, print_table
from pyoco_server.api.workers import Scope
from pyoco_server.model.worker import WorkerState

_PREVIEWED = 3


class WorkersOutput(StrEnum):
    """How workers are printed."""

    JSON = "json"
    JSONL = "jsonl"
    CSV = "csv"
    TABLE = "table"
    TEXT = "text"
    PLUGINS = "plugins"


_COLUMNS = ("worker_id", "state", "tags", "plugins", "plugin_preview")
_PLUGIN_COLUMNS = ("worker_id", "state", "tags", "package", "version", "wheel_name")


def workers(
    context: typer.Context,
    *,
    scope: Annotated[
        Scope, typer.Option(help="active: RUNNING and IDLE; all: also those that went.")
    ] = Scope.ACTIVE,
    state: Annotated[WorkerState | None, typer.Option(help="Only workers in that state.")] = None,
    include_hidden: Annotated[
        bool, typer.Option("--include-hidden", help="Also those that were hidden.")
    ] = False,
    tag: Annotated[str | None, typer.Option(help="Only workers with that tag.")] = None,
    limit: Annotated[int | None, typer.Option(help="How many, 1 to 500.")] = None,
    output: Annotated[
        WorkersOutput | None,
        typer.Option(help=f"{OUTPUT_HELP} plugins: a line for each plugin."),
    ] = None,
) -> None:
    """List workers, last seen first."""
    with gateway(context) as client:
        records = client.get_workers(
            scope=scope.value,
            state=None if state is None else state.value,
            include_hidden=True if include_hidden else None,
            tag=tag,
            limit=limit,
        )
    match output:
        case WorkersOutput.TABLE if not on_terminal():
            print_table(_COLUMNS, [_row(record) for record in records])
        case WorkersOutput.PLUGINS:
            rows = [row for record in records for row in _plugin_rows(record)]
            if on_terminal():
                draw("cells_table", _PLUGIN_COLUMNS, rows)
            else:
                print_table(_PLUGIN_COLUMNS, rows)
        case _:
            form = None if output is None else OutputFormat(output.value)
            show(records, form, "workers_table", columns=("worker_id", "state"))


def _row(record: Mapping[str, Any]) -> list[str]:
    plugins = _plugins(record)
    labels = [_label(plugin) for plugin in plugins[:_PREVIEWED]]
    if len(plugins) > _PREVIEWED:
        labels.append(f"+{len(plugins) - _PREVIEWED}")
    return [*_head(record), str(len(plugins)), ", ".join(labels) or "-"]


def _plugin_rows(record: Mapping[str, Any]) -> list[list[str]]:
    columns = ("package_name", "package_version", "wheel_name")
    plugins = _plugins(record) or [{}]
    return [[*_head(record), *(plugin.get(name) or "-" for name in columns)] for plugin in plugins]


def _head(record: Mapping[str, Any]) -> list[str]:
    raw = record.get("tags")
    tags = [str(tag).strip() for tag in raw] if isinstance(raw, list) else []
    return [
        str(record.get("worker_id") or "-"),
        _state(record),
        ",".join(tag for tag in tags if tag) or "-",
    ]


def _state(record: Mapping[str, Any]) -> str:
    order = "draining" if record.get("draining") else "paused" if record.get("paused") else None
    state = str(record.get("state") or "-")
    return f"{state} {order}" if order and state in {"RUNNING", "IDLE"} else state


def _plugins(record: Mapping[str, Any]) -> list[dict[str, str]]:
    match record.get("wheel_sync"):
        case {"installed_wheels": list() as installed}:
            return [
                {name: str(value or "") for name, value in wheel.items()}
                for wheel in installed
                if isinstance(wheel, dict)
            ]
        case _:
            return []


def _label(plugin: dict[str, str]) -> str:
    name, version = plugin.get("package_name"), plugin.get("package_version")
    return f"{name}@{version}" if name and version else plugin.get("wheel_name") or "-"
