"""`dlq …` and `retry`: what came to no good end, and trying it again."""

from __future__ import annotations

from typing import Annotated, TypeAlias

import typer

from pyoco_cli.client.app import OutputOption, RunId, show
from pyoco_cli.client.connection import gateway

Sequence: TypeAlias = Annotated[
    int, typer.Argument(metavar="SEQ", min=1, help="Number of the dead letter.")
]

dlq = typer.Typer(help="Dead letters: jobs and runs that came to no good end.")


@dlq.command("list")
def list_letters(
    context: typer.Context,
    *,
    reason: Annotated[
        str | None, typer.Option(help="Only those for it, e.g. execution_error.")
    ] = None,
    tag: Annotated[str | None, typer.Option(help="Only those of that tag.")] = None,
    run_id: Annotated[str | None, typer.Option(help="Only those of that run.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, max=200, help="How many, 1 to 200.")] = None,
    cursor: Annotated[
        str | None, typer.Option(help="Where to go on: next_cursor of the page before.")
    ] = None,
    output: OutputOption = None,
) -> None:
    """List dead letters, the newest first."""
    with gateway(context) as client:
        page = client.list_dead_letters(
            reason=reason, tag=tag, run_id=run_id, limit=limit, cursor=cursor
        )
    show(page, output, "letters_page")


@dlq.command("show")
def show_letter(context: typer.Context, seq: Sequence, output: OutputOption = None) -> None:
    """Show a dead letter."""
    with gateway(context) as client:
        letter = client.get_dead_letter(seq)
    show(letter, output)


@dlq.command("requeue")
def requeue_letter(context: typer.Context, seq: Sequence, output: OutputOption = None) -> None:
    """Submit what a dead letter is about again, as a new run; the letter goes."""
    with gateway(context) as client:
        answer = client.requeue_dead_letter(seq)
    show(answer, output, "submitted")


@dlq.command("drop")
def drop_letter(context: typer.Context, seq: Sequence, output: OutputOption = None) -> None:
    """Delete a dead letter."""
    with gateway(context) as client:
        answer = client.drop_dead_letter(seq)
    show(answer, output)


def retry(context: typer.Context, run_id: RunId, output: OutputOption = None) -> None:
    """Submit a run that has ended again, as a new one with the same params."""
    with gateway(context) as client:
        answer = client.retry_run(run_id)
    show(answer, output, "submitted")
