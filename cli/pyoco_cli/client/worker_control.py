"""`worker-pause`, `worker-resume` and `worker-drain`: what an operator tells a worker."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Annotated, Final, TypeAlias, TypedDict

import typer

from pyoco_cli.client.app import OutputOption, show
from pyoco_cli.client.connection import gateway
from pyoco_cli.client.outcome import TIMED_OUT
from pyoco_cli.common.errors import CliError
from pyoco_cli.common.language import Phrase
from pyoco_cli.common.numbers import seconds_option
from pyoco_cli.common.option_groups import with_options
from pyoco_server.model.errors import ErrorId

if TYPE_CHECKING:
    from pyoco_server.client import PyocoHttpClient
    from pyoco_server.client.answers import WorkerOrderedDict

_LOOK_SECONDS: Final = 0.5

WorkerId: TypeAlias = Annotated[
    str, typer.Argument(metavar="WORKER_ID", help="Id of the worker, as `workers` lists it.")
]


class OrderOptions(TypedDict):
    """Why an order is given, and by whom."""

    reason: Annotated[str | None, typer.Option(help="Why, for people; kept with the worker.")]
    requested_by: Annotated[
        str | None, typer.Option(help="Who asks; under authentication that is the API key.")
    ]


@with_options(why=OrderOptions)
def worker_pause(
    context: typer.Context, worker_id: WorkerId, *, why: OrderOptions, output: OutputOption = None
) -> None:
    """Let a worker take no more jobs until it is resumed; what runs goes on."""
    with gateway(context) as client:
        answer = client.order_worker(worker_id, "pause", **why)
    show(answer, output, "ordered")


@with_options(why=OrderOptions)
def worker_resume(
    context: typer.Context, worker_id: WorkerId, *, why: OrderOptions, output: OutputOption = None
) -> None:
    """Let a paused worker take jobs again."""
    with gateway(context) as client:
        answer = client.order_worker(worker_id, "resume", **why)
    show(answer, output, "ordered")


@with_options(why=OrderOptions)
def worker_drain(
    context: typer.Context,
    worker_id: WorkerId,
    *,
    why: OrderOptions,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until it has stopped.")] = False,
    timeout_sec: Annotated[
        float,
        seconds_option(help="With --wait: seconds at most, 0 for no limit; exits with 124."),
    ] = 0.0,
    output: OutputOption = None,
) -> None:
    """Let a worker end what it runs, give back what takes too long, and stop."""
    with gateway(context) as client:
        answer = client.order_worker(worker_id, "drain", **why)
        if wait:
            _wait_for_stop(client, answer, timeout_sec or math.inf)
    show(answer, output, "stopped" if wait else "ordered")


def _wait_for_stop(client: PyocoHttpClient, ordered: WorkerOrderedDict, seconds: float) -> None:
    worker_id, until = str(ordered["worker_id"]), time.monotonic() + seconds
    while True:
        there = [
            worker
            for worker in client.get_workers(scope="all", include_hidden=True, limit=500)
            if worker.get("worker_id") == worker_id
            # A service manager may have started it anew: that is another process.
            and worker.get("instance_id") == ordered.get("instance_id")
        ]
        state = str(there[0].get("state")) if there else "STOPPED_GRACEFUL"
        if state == "STOPPED_GRACEFUL":
            return
        if state == "DISCONNECTED":
            raise CliError(
                f"worker {worker_id} gave no sign of life while it was waited for",
                hint="look at its machine and log",
                error_id=ErrorId.WORKER_NOT_FOUND,
            )
        if time.monotonic() >= until:
            raise CliError(
                f"worker {worker_id} has not stopped after {seconds:g} s",
                title=Phrase.WAIT_TIMEOUT,
                hint=f"pyoco-client worker-drain {worker_id} --wait",
                code=TIMED_OUT,
                error_id="ERR-PYOCO-WAIT",
            )
        time.sleep(min(_LOOK_SECONDS, max(until - time.monotonic(), 0.0)))
