"""`submit` and `submit-yaml`: start a run, and stay with it if asked to."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, TypedDict

import typer

from pyoco_cli.client.app import OutputFormat, OutputOption, show
from pyoco_cli.client.batch import read_batch, submit_batch
from pyoco_cli.client.connection import gateway
from pyoco_cli.client.logs import lines_of
from pyoco_cli.client.outcome import ENDED, exit_code, leaving, wait_for_end
from pyoco_cli.client.times import TimeOptions
from pyoco_cli.client.waiting import tell_why_it_waits
from pyoco_cli.client.watch import print_status
from pyoco_cli.common.errors import CliError
from pyoco_cli.common.formats import chosen
from pyoco_cli.common.numbers import seconds_option
from pyoco_cli.common.option_groups import with_options
from pyoco_cli.common.output import on_terminal, print_json, print_line
from pyoco_cli.common.parameters import ParamOptions, collect_params, read_text, split_tags

if TYPE_CHECKING:
    from pyoco_server.client import PyocoHttpClient

Key: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--idempotency-key", help="Submits with the same key make one run, and may be repeated."
    ),
]


class StayOptions(TypedDict):
    """Whether to stay with the run, and how long."""

    wait: Annotated[
        bool | None,
        typer.Option(
            "--wait", help="Wait for the end; exits with 0 COMPLETED, 1 FAILED, 2 CANCELLED."
        ),
    ]
    follow: Annotated[
        bool | None,
        typer.Option(
            "--follow",
            help="Show task states and output until the end (JSON and CSV: states); exits as --wait does.",
        ),
    ]
    wait_timeout_sec: Annotated[
        float | None,
        seconds_option(help="With --wait or --follow: seconds at most; exits with 124."),
    ]


class LimitOptions(TypedDict):
    """What a run may take."""

    timeout_sec: Annotated[float | None, typer.Option(help="Seconds that an attempt may take.")]
    max_attempts: Annotated[int | None, typer.Option(help="How often the run may be started.")]
    retry_backoff_sec: Annotated[
        float | None, typer.Option(help="Seconds before the second attempt; doubled each time.")
    ]
    memory_mb: Annotated[
        int | None, typer.Option(help="MB that the processes of an attempt may have together.")
    ]
    cpu_sec: Annotated[
        float | None, typer.Option(help="Seconds of processor time that they may take together.")
    ]


@with_options(values=ParamOptions, staying=StayOptions, limits=LimitOptions, times=TimeOptions)
def submit(
    context: typer.Context,
    *,
    flow_name: Annotated[str, typer.Option(help="Flow that the workers know.")] = "main",
    values: ParamOptions,
    tag: Annotated[str | None, typer.Option(help="Tag that the run goes to.")] = None,
    tags: Annotated[str | None, typer.Option(help="Its tags, with commas in between.")] = None,
    batch_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="JSON lines, a run each; --flow-name, --tag and --idempotency-key fill what one lacks.",
        ),
    ] = None,
    idempotency_key: Key = None,
    staying: StayOptions,
    limits: LimitOptions,
    times: TimeOptions,
    output: OutputOption = None,
) -> int:
    """Submit a run of a flow, or the runs of a file."""
    if batch_file is not None:
        if staying["wait"] or staying["follow"] or any(values.values()):
            raise CliError(
                "--batch-file goes with --flow-name, --tag, --tags, --idempotency-key and limits only",
                hint='params stand in the file: {"params": {"x": 1}}',
            )
        common = {
            "flow_name": flow_name,
            "tag": tag,
            "tags": split_tags(tags),
            **limits,
            **times,
        }
        runs = read_batch(batch_file, {k: v for k, v in common.items() if v is not None})
        return submit_batch(context, runs, output, idempotency_key)
    params = collect_params(**values)
    with gateway(context) as client:
        answer = client.submit_run(
            flow_name,
            params,
            tag=tag,
            tags=split_tags(tags),
            idempotency_key=idempotency_key,
            **limits,
            **times,
        )
        return stay(client, answer, output, staying)


@with_options(values=ParamOptions, staying=StayOptions, limits=LimitOptions, times=TimeOptions)
def submit_yaml(
    context: typer.Context,
    *,
    workflow_file: Annotated[Path, typer.Option(metavar="FILE", help="Path of a flow.yaml.")],
    flow_name: Annotated[str, typer.Option(help="Name of the flow.")] = "main",
    values: ParamOptions,
    tag: Annotated[
        str | None, typer.Option(help="Tag that the run goes to; the gateway's default if absent.")
    ] = None,
    idempotency_key: Key = None,
    staying: StayOptions,
    limits: LimitOptions,
    times: TimeOptions,
    output: OutputOption = None,
) -> int:
    """Submit a run of a flow.yaml; params go over its defaults."""
    text = read_text(workflow_file, "--workflow-file")
    params = collect_params(**values)
    with gateway(context) as client:
        answer = client.submit_run_yaml(
            text,
            params,
            flow_name=flow_name,
            tag=tag,
            idempotency_key=idempotency_key,
            **limits,
            **times,
        )
        return stay(client, answer, output, staying)


def stay(
    client: PyocoHttpClient,
    answer: Mapping[str, Any],
    output: OutputFormat | None,
    staying: StayOptions,
) -> int:
    """Print the answer to a submission, stay with the run if asked to, and return the exit code."""
    run_id = str(answer.get("run_id"))
    follow, seconds = staying["follow"], staying["wait_timeout_sec"]
    stays = staying["wait"] or follow
    # Rows name the run themselves.
    if not (output is OutputFormat.CSV and stays):
        show(answer, output, "run_views:submitted")
    if not stays:
        return 0
    tell_why_it_waits(client, client.get_run(run_id))
    began = time.monotonic()
    with leaving(run_id):
        if follow:
            _follow(client, run_id, output, seconds)
        left = None if seconds is None else seconds - (time.monotonic() - began)
        final = wait_for_end(client, run_id, left)
    if not follow and final.get("status") in ENDED:
        show(final, output, "run_views:run_panel")
    return exit_code(run_id, final, seconds)


def _follow(
    client: PyocoHttpClient, run_id: str, output: OutputFormat | None, seconds: float | None
) -> None:
    if on_terminal() and chosen(output) is OutputFormat.TABLE:
        # Here, because rich would cost those that print lines a noticeable time.
        from pyoco_cli.client.follow import show_live_with_logs  # noqa: PLC0415

        show_live_with_logs(client, run_id, seconds)
    elif chosen(output) is OutputFormat.TABLE:
        for event in client.events(run_id, follow=True, within_seconds=seconds):
            for line in lines_of(event):
                print_line(line)
    elif output is OutputFormat.CSV:
        print_status(client.watch(run_id, within_seconds=seconds), as_csv=True)
    else:
        for change in client.watch(run_id, within_seconds=seconds):
            print_json(change)
