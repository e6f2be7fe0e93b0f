"""`pyoco-server scenario record`: make a scenario of what happened on a live system."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from pyoco_cli.common.commands import NatsUrl
from pyoco_cli.common.errors import CliError
from pyoco_cli.common.moments import span
from pyoco_cli.common.parameters import write_text
from pyoco_cli.server.nats import operator_settings, with_nats
from pyoco_server.model.errors import ErrorId
from pyoco_server.scenario.document import ScenarioError, write_scenario
from pyoco_server.scenario.recorder import record as make_record


def record(
    out: Annotated[Path, typer.Option(metavar="FILE", help="The scenario to write.")],
    last: Annotated[
        str, typer.Option(metavar="SPAN", help="How far back: 90s, 10m, 2h or 1d.")
    ] = "10m",
    redact: Annotated[
        bool,
        typer.Option(
            "--redact", help="Leave out values of params, reasons of cancels, unreadable messages."
        ),
    ] = False,
    nats_url: NatsUrl = None,
) -> None:
    """Write what happened lately as a scenario: runs with all their states, workers, dead letters.

    Nothing is changed on the system. Play it with: pyoco-server scenario run FILE --speed 10
    """
    # A number alone is of seconds.
    seconds = span(last) or span(f"{last}s")
    if seconds is None:
        raise CliError(f"--last {last}: a span such as 90s, 10m or 2h")
    if out.is_file() and out.stat().st_size:
        raise CliError(f"{out} exists; a recording is never written over another file")
    settings, now = operator_settings(nats_url), time.time()
    work = partial(make_record, since=now - seconds, now=now, redact=redact)
    try:
        scenario = with_nats(settings, work)
        text = write_scenario(scenario)
    except ScenarioError as error:
        raise CliError(str(error), error_id=ErrorId.INVALID_INPUT) from None
    write_text(out, text, "--out")
    typer.echo(f"{out}: {scenario.about}")
