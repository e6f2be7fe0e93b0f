"""`pyoco-client`: the HTTP API from the command line, one module a command or small group."""

from __future__ import annotations

from collections.abc import Sequence

from pyoco_cli.client.app import app
from pyoco_cli.client.artifacts import artifacts
from pyoco_cli.client.dlq import dlq, retry
from pyoco_cli.client.listing import list_runs
from pyoco_cli.client.logs import events, logs
from pyoco_cli.client.metrics import metrics
from pyoco_cli.client.runs import cancel, get, list_vnext, tasks
from pyoco_cli.client.submit import submit, submit_yaml
from pyoco_cli.client.top import top
from pyoco_cli.client.watch import watch
from pyoco_cli.client.wheel_build import wheel_build
from pyoco_cli.client.wheels import wheel_delete, wheel_history, wheel_upload, wheels
from pyoco_cli.client.worker_control import worker_drain, worker_pause, worker_resume
from pyoco_cli.client.workers import workers
from pyoco_cli.common.errors import run

__all__ = ["app", "main"]

# The help lists them in this order.
app.command("submit")(submit)
app.command("submit-yaml")(submit_yaml)
app.command("get")(get)
app.command("tasks")(tasks)
app.command("list")(list_runs)
app.command("list-vnext")(list_vnext)
app.command("watch")(watch)
app.command("logs")(logs)
app.command("events")(events)
app.command("artifacts")(artifacts)
app.command("cancel")(cancel)
app.command("retry")(retry)
app.add_typer(dlq, name="dlq")
app.command("workers")(workers)
app.command("worker-pause")(worker_pause)
app.command("worker-resume")(worker_resume)
app.command("worker-drain")(worker_drain)
app.command("wheels")(wheels)
app.command("wheel-history")(wheel_history)
app.command("wheel-upload")(wheel_upload)
app.command("wheel-build")(wheel_build)
app.command("wheel-delete")(wheel_delete)
app.command("metrics")(metrics)
app.command("top")(top)


def main(argv: Sequence[str] | None = None) -> int:
    """Run `pyoco-client` and return its exit code: 0 done, 1 the user can mend it, 130 Ctrl-C."""
    return run(app, argv)
