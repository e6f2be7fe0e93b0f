"""`wheels`, `wheel-history`, `wheel-upload` and `wheel-delete`."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from pyoco_cli.client.app import OutputOption, show
from pyoco_cli.client.connection import gateway
from pyoco_cli.client.uploading import unreadable, upload
from pyoco_cli.common.errors import CliError
from pyoco_cli.common.parameters import split_tags


class Action(StrEnum):
    """What was done to a wheel."""

    UPLOAD = "upload"
    DELETE = "delete"


class Preflight(StrEnum):
    """What the check before an upload may do."""

    STRICT = "strict"
    WARN = "warn"
    OFF = "off"


AllTenantsOption: TypeAlias = Annotated[
    bool, typer.Option("--all-tenants", help="Those of all tenants; takes an admin's key.")
]


def wheels(
    context: typer.Context, *, all_tenants: AllTenantsOption = False, output: OutputOption = None
) -> None:
    """List the wheels of the registry."""
    with gateway(context) as client:
        found = client.list_wheels(all_tenants=all_tenants or None)
    columns = ("name", "size_bytes", "mtime", "tags", *(("tenant_id",) if all_tenants else ()))
    show(found, output, "wheels_table", columns=columns)


def wheel_history(
    context: typer.Context,
    *,
    limit: Annotated[int, typer.Option(help="How many, 1 to 500.")] = 100,
    wheel_name: Annotated[str | None, typer.Option(help="Only that wheel.")] = None,
    action: Annotated[Action | None, typer.Option(help="Only that action.")] = None,
    all_tenants: AllTenantsOption = False,
    output: OutputOption = None,
) -> None:
    """List uploads and deletions of wheels, the newest first."""
    with gateway(context) as client:
        events = client.list_wheel_history(
            limit=limit,
            wheel_name=wheel_name,
            action=None if action is None else action.value,
            all_tenants=all_tenants or None,
        )
    show(events, output, "history_table", columns=("occurred_at", "action", "wheel_name"))


def wheel_upload(
    context: typer.Context,
    *,
    wheel_file: Annotated[Path, typer.Option(metavar="FILE", help="Path of a .whl.")],
    tags: Annotated[
        str | None,
        typer.Option(help="Workers that it is for, with commas in between; all if absent."),
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace/--no-replace", help="Whether it may replace its like.")
    ] = True,
    shared: Annotated[
        bool, typer.Option("--shared", help="For all tenants; takes an admin's key.")
    ] = False,
    preflight: Annotated[
        Preflight, typer.Option(help="strict: refuse a poor wheel; warn: say so; off: don't look.")
    ] = Preflight.STRICT,
    allow_no_entry_points: Annotated[
        bool, typer.Option("--allow-no-entry-points", help="It needs no entry point.")
    ] = False,
    allow_missing_usage_doc: Annotated[
        bool, typer.Option("--allow-missing-usage-doc", help="It needs no usage text.")
    ] = False,
    output: OutputOption = None,
) -> None:
    """Upload a wheel into the registry."""
    try:
        if preflight is not Preflight.OFF:
            _check(
                wheel_file,
                strict=preflight is Preflight.STRICT,
                need_entry_points=not allow_no_entry_points,
                need_usage=not allow_missing_usage_doc,
            )
    except OSError as error:
        raise unreadable(wheel_file, error) from None
    with gateway(context) as client:
        wheel = upload(client, wheel_file, replace=replace, tags=split_tags(tags), shared=shared)
    show(wheel, output, "uploaded")


def wheel_delete(
    context: typer.Context,
    *,
    name: Annotated[str, typer.Option("--name", help="File name of the wheel.")],
    output: OutputOption = None,
) -> None:
    """Delete a wheel from the registry."""
    with gateway(context) as client:
        answer = client.delete_wheel(name)
    show(answer, output, "gone")


def _check(path: Path, *, strict: bool, need_entry_points: bool, need_usage: bool) -> None:
    # Here, because only an upload needs zip archives and mail headers.
    from pyoco_cli.client.preflight import check_wheel  # noqa: PLC0415

    findings = check_wheel(path, need_entry_points=need_entry_points, need_usage=need_usage)
    warnings = findings.warnings if strict else [*findings.warnings, *findings.errors]
    for warning in warnings:
        sys.stderr.write(f"[pyoco-client][preflight][warn] {warning}\n")
    if strict and findings.errors:
        raise CliError(
            f"wheel preflight failed: {'; '.join(findings.errors)}",
            hint="fix wheel metadata/entry_points or use --preflight warn/off",
        )
