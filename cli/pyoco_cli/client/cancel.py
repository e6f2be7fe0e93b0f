"""`cancel`: of one run, or of all that a flow, a tag or a worker has."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from itertools import chain
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pyoco_cli.client.app import OutputOption, show
from pyoco_cli.client.connection import gateway
from pyoco_cli.client.listing import every_run
from pyoco_cli.client.outcome import ENDED
from pyoco_cli.client.run_ids import whole_id
from pyoco_cli.common.errors import CliError
from pyoco_cli.common.language import Phrase
from pyoco_cli.common.output import on_terminal
from pyoco_cli.common.parameters import check_given
from pyoco_server.client.requests import CANCEL_WAIT_SECONDS
from pyoco_server.model.counted import counted

if TYPE_CHECKING:
    from pyoco_server.client import PyocoHttpClient
    from pyoco_server.client.answers import RunDict, RunsQueryDict

_UNFINISHED = ("PENDING", "RUNNING", "CANCELLING")
_COLUMNS = ("run_id", "status", "flow_name", "tag", "worker_id")


def cancel(
    context: typer.Context,
    run: Annotated[
        str | None, typer.Argument(metavar="RUN_ID", help="Id of the run, or its beginning.")
    ] = None,
    *,
    run_id: Annotated[str | None, typer.Option("--run-id", help="The same, as an option.")] = None,
    flow: Annotated[
        str | None, typer.Option(help="Instead of one: all runs of a flow that have not ended.")
    ] = None,
    tag: Annotated[
        str | None, typer.Option(help="All of that tag, or of the flow with it.")
    ] = None,
    worker_id: Annotated[
        str | None, typer.Option(help="All on that worker, or of the flow on it.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Of several: don't ask.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until the run has ended.")] = False,
    timeout_sec: Annotated[
        int, typer.Option(help="With --wait: seconds at most; exits with 1.")
    ] = CANCEL_WAIT_SECONDS,
    reason: Annotated[str | None, typer.Option(help="Why, for people; kept with the run.")] = None,
    requested_by: Annotated[
        str | None, typer.Option(help="Who asks; under authentication that is the API key.")
    ] = None,
    output: OutputOption = None,
) -> None:
    """Cancel a run, or all of a flow, a tag or a worker.

    With --wait it exits with 0 however they end, 1 when time was up before.
    """
    filters: RunsQueryDict = {"flow": flow, "tag": tag, "worker_id": worker_id}
    several = any(value is not None for value in (flow, tag, worker_id))
    if (run is not None) + (run_id is not None) + several != 1:
        raise CliError(
            "cancel takes one run, or --flow, --tag and --worker-id",
            usage="pyoco-client cancel [OPTIONS] RUN_ID",
            hint=Phrase.LIST_RUNS,
        )
    for name, value in filters.items():
        check_given(f"--{name.replace('_', '-')}", value)
    how: dict[str, Any] = {
        "wait": wait, "timeout_sec": timeout_sec, "reason": reason, "requested_by": requested_by
    }  # fmt: skip
    with gateway(context) as client:
        if several:
            found = _unfinished(client, filters)
            if found and not yes:
                _ask(len(found))
            ends = _cancel_all(client, [str(each["run_id"]) for each in found], how)
            show(list(ends.values()), output, "run_views:runs_table", columns=_COLUMNS)
            if wait and (going_on := _going_on(ends)):
                raise _not_ended(
                    f"{counted(len(going_on), 'run has', 'runs have')} not ended: "
                    + ", ".join(going_on),
                    going_on[0],
                )
            return
        snapshot = _cancelled(client, whole_id(client, run or run_id or ""), how)
    if on_terminal():
        _explain(snapshot)
    show(snapshot, output, "run_views:run_panel")


def _unfinished(client: PyocoHttpClient, filters: RunsQueryDict) -> list[Mapping[str, Any]]:
    found = every_run(client, {"status": ",".join(_UNFINISHED), **filters})
    if not found:  # a gateway of 0.5.1 takes one status at a time
        each = (every_run(client, {"status": status, **filters}) for status in _UNFINISHED)
        found = list(chain.from_iterable(each))
    # ... and knows no filter by worker.
    worker_id = filters.get("worker_id")
    return [run for run in found if worker_id in (None, run.get("worker_id"))]


def _cancelled(client: PyocoHttpClient, run_id: str, how: dict[str, Any]) -> RunDict:
    try:
        return client.cancel_run(run_id, **how)
    except TimeoutError as error:
        raise _not_ended(str(error), run_id) from None


def _cancel_all(
    client: PyocoHttpClient, run_ids: list[str], how: dict[str, Any]
) -> dict[str, RunDict]:
    """Ask all to end before the end of any is waited for; runs that are kept no longer are left out."""
    from pyoco_server.client import HttpProblem  # noqa: PLC0415 - httpx, see connection.py

    ends: dict[str, RunDict] = {}

    def ask(run_id: str, how: dict[str, Any]) -> None:
        try:
            ends[run_id] = client.cancel_run(run_id, **how)
        except HttpProblem as problem:
            if problem.status != 404:
                raise
            ends.pop(run_id, None)

    for run_id in run_ids:
        ask(run_id, {**how, "wait": False})
    deadline = time.monotonic() + how["timeout_sec"]
    for run_id in _going_on(ends) if how["wait"] else ():
        left = deadline - time.monotonic()
        with suppress(TimeoutError):
            ask(run_id, {**how, "wait": left > 0, "timeout_sec": math.ceil(left)})
    return ends


def _going_on(ends: dict[str, RunDict]) -> list[str]:
    return [run_id for run_id, end in ends.items() if end.get("status") not in ENDED]


def _not_ended(reason: str, run_id: str) -> CliError:
    return CliError(
        reason,
        title=Phrase.WAIT_TIMEOUT,
        hint=Phrase.CANCEL_AGAIN.fill(run_id=run_id),
        error_id="ERR-PYOCO-CANCEL",
    )


def _ask(count: int) -> None:
    """Let a person confirm; a program has to say so before."""
    if not sys.stdin.isatty():
        raise CliError(f"{counted(count, 'run')} would be cancelled", hint=Phrase.GIVE_YES)
    question = Phrase.CANCEL_ONE if count == 1 else Phrase.CANCEL_SEVERAL
    typer.confirm(question.fill(count=str(count)), abort=True, err=True)


def _explain(snapshot: RunDict) -> None:
    """Say what the answer means, where that is not what one might expect."""
    status = snapshot.get("status")
    if status == "CANCELLING" and snapshot.get("worker_id"):
        typer.echo(str(Phrase.IS_CANCELLING), err=True)
    elif status in ENDED and status != "CANCELLED":
        typer.echo(Phrase.HAD_ENDED.fill(status=str(status)), err=True)
