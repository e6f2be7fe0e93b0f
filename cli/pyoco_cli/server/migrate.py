"""`pyoco-server admin migrate`: existing streams and buckets become what the settings say."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import msgspec
import typer

from pyoco_cli.common.commands import NatsUrl
from pyoco_cli.common.errors import CliError
from pyoco_cli.common.formats import OutputFormat, OutputOption, chosen, print_rows
from pyoco_cli.common.output import print_line, printable
from pyoco_cli.server.nats import operator_settings, with_nats
from pyoco_server.model.errors import ErrorId
from pyoco_server.operations.migrate import Change
from pyoco_server.operations.migrate import migrate as change

admin = typer.Typer(help="What is done to an installation once in a while.", rich_markup_mode=None)


@admin.callback()
def _commands() -> None:
    """Keep the command below the group, also while it is the only one."""


@admin.command()
def migrate(
    replicas: Annotated[
        int | None, typer.Option(min=1, max=5, help="Copies of each stream and bucket.")
    ] = None,
    settings: Annotated[
        bool, typer.Option("--settings", help="Ages and limits become those of the settings.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be done.")
    ] = False,
    output: OutputOption = None,
    nats_url: NatsUrl = None,
) -> int:
    """Change streams and buckets that exist; gateways and workers may go on meanwhile.

    New ones are made as the settings say: set PYOCO_JETSTREAM_REPLICAS as well.
    """
    if replicas is None and not settings:
        raise CliError(
            "nothing to change was named",
            hint="pyoco-server admin migrate --replicas 3, or --settings, or both",
        )
    changes = with_nats(
        operator_settings(nats_url),
        partial(change, replicas=replicas, to_settings=settings, dry_run=dry_run),
    )
    form = chosen(output)
    if form is OutputFormat.TABLE:
        for each in changes:
            print_line(_line(each, dry_run))
    else:
        # A JSON document a change, as ever.
        lines = OutputFormat.CSV if form is OutputFormat.CSV else OutputFormat.JSONL
        print_rows([msgspec.to_builtins(each) for each in changes], lines, ("stream",))
    refused = [each for each in changes if each.error]
    if refused:
        raise CliError(
            "; ".join(f"{each.stream}: {each.error}" for each in refused),
            hint="three copies need three NATS servers that know each other: docs/guides/cluster.md",
            error_id=ErrorId.NATS_UNAVAILABLE,
        )
    if not changes and form is OutputFormat.TABLE:
        print_line("nothing differs")
    return 0


def _line(each: Change, dry_run: bool) -> str:
    what = ", ".join(f"{name} {old} → {new}" for name, (old, new) in each.changes.items())
    verdict = "refused" if each.error else "would be" if dry_run else "done"
    return printable(f"{each.stream}: {what} ({verdict})")
