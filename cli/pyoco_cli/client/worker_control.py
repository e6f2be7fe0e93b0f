"""`worker-pause`, `worker-resume` and `worker-drain`: what an operator tells a worker."""

from __future__ import annotations

from typing import Annotated, TypeAlias

import typer

from pyoco_cli.client.app import OutputOption, show
from pyoco_cli.client.connection import gateway

WorkerId: TypeAlias = Annotated[
    str, typer.Argument(metavar="WORKER_ID", help="Id of the worker, as `workers` lists it.")
]


def worker_pause(context: typer.Context, worker_id: WorkerId, output: OutputOption = None) -> None:
    """Let a worker take no more jobs until it is resumed; what runs goes on."""
    with gateway(context) as client:
        answer = client.order_worker(worker_id, "pause")
    show(answer, output)


def worker_resume(context: typer.Context, worker_id: WorkerId, output: OutputOption = None) -> None:
    """Let a paused worker take jobs again."""
    with gateway(context) as client:
        answer = client.order_worker(worker_id, "resume")
    show(answer, output)


def worker_drain(context: typer.Context, worker_id: WorkerId, output: OutputOption = None) -> None:
    """Let a worker end what it runs, give back what takes too long, and stop."""
    with gateway(context) as client:
        answer = client.order_worker(worker_id, "drain")
    show(answer, output)
