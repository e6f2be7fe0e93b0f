"""`dlq …` and `retry`: what came to no good end, and trying it again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from pyoco_cli.client.app import CursorOption, OutputOption, RunId, draw, show
from pyoco_cli.client.connection import gateway
from pyoco_cli.client.run_ids import whole_id
from pyoco_cli.client.submit import StayOptions, stay
from pyoco_cli.client.times import TimeOptions
from pyoco_cli.common.formats import OutputFormat, chosen
from pyoco_cli.common.option_groups import with_options
from pyoco_cli.common.parameters import ParamOptions, collect_params

if TYPE_CHECKING:
    from pyoco_server.client import PyocoHttpClient

Sequence: TypeAlias = Annotated[
    int, typer.Argument(metavar="SEQ", min=1, help="Number of the dead letter.")
]

_COLUMNS = ("seq", "reason", "timestamp", "run_id", "flow_name", "tag", "worker_id", "error")

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
    cursor: CursorOption = None,
    output: OutputOption = None,
) -> None:
    """List dead letters, the newest first."""
    with gateway(context) as client:
        whole = whole_id(client, run_id) if run_id else None
        page = client.list_dead_letters(
            reason=reason, tag=tag, run_id=whole, limit=limit, cursor=cursor
        )
    show(page, output, "run_views:letters_page", columns=_COLUMNS)


@dlq.command("show")
def show_letter(context: typer.Context, seq: Sequence, output: OutputOption = None) -> None:
    """Show a dead letter."""
    with gateway(context) as client:
        letter = client.get_dead_letter(seq)
        if chosen(output) is not OutputFormat.TABLE:
            show(letter, output)
            return
        # The letter has what it takes to run again; where it failed is in the run, as long as that is kept.
        draw("run_views:letter", {**letter, **_tasks_of(client, letter.get("run_id"))})


def _tasks_of(client: PyocoHttpClient, run_id: str | None) -> dict[str, Any]:
    from pyoco_server.client import HttpProblem  # noqa: PLC0415 - httpx, see connection.py

    try:
        return {"task_records": client.get_tasks(run_id)["task_records"]} if run_id else {}
    except HttpProblem:
        return {}


@dlq.command("requeue")
@with_options(staying=StayOptions)
def requeue_letter(
    context: typer.Context,
    seq: Sequence,
    *,
    staying: StayOptions,
    output: OutputOption = None,
) -> int:
    """Submit what a dead letter is about again, as a new run; the letter goes."""
    with gateway(context) as client:
        answer = client.requeue_dead_letter(seq)
        return stay(client, answer, output, staying)


@dlq.command("drop")
def drop_letter(context: typer.Context, seq: Sequence, output: OutputOption = None) -> None:
    """Delete a dead letter."""
    with gateway(context) as client:
        answer = client.drop_dead_letter(seq)
    show(answer, output, "gone")


@with_options(values=ParamOptions, staying=StayOptions, times=TimeOptions)
def retry(
    context: typer.Context,
    run_id: RunId,
    *,
    values: ParamOptions,
    staying: StayOptions,
    times: TimeOptions,
    output: OutputOption = None,
) -> int:
    """Submit a run that has ended again, as a new one; its dead letter goes.

    Its params are those that it had, with those that are given over them.
    """
    changed = collect_params(**values)
    with gateway(context) as client:
        answer = client.retry_run(whole_id(client, run_id), changed, **times)
        return stay(client, answer, output, staying)
