"""`pyoco-worker`: pulls runs of its tags and executes them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import structlog
import trio
import typer

from pyoco_cli.common.commands import NatsUrl, Version, program
from pyoco_cli.common.errors import CliError, run
from pyoco_cli.common.numbers import seconds_option
from pyoco_cli.common.parameters import read_tags
from pyoco_cli.configuration import collect_seldom, keep_secrets, load_settings, state_folder
from pyoco_cli.signals import stop_signals
from pyoco_server.backend import open_backend
from pyoco_server.jetstream.errors import BridgeError
from pyoco_server.logs import configure_logging
from pyoco_server.model.errors import ErrorId
from pyoco_server.settings import Settings
from pyoco_server.worker.runner.resolver import FlowResolverError, check_flow_resolver
from pyoco_server.worker.runner.task_user import TaskUser, TaskUserError
from pyoco_server.worker.tree import WorkerOptions

log = structlog.get_logger(__name__)

_CONNECT_SECONDS = 5.0

app = program("pyoco-worker")


@app.command()
def worker(
    nats_url: NatsUrl = None,
    tags: Annotated[str, typer.Option(help="Tags to take, with commas (OR).")] = "default",
    worker_id: Annotated[
        str | None,
        typer.Option(
            help="Name in the list of workers; else the host's and a part kept in PYOCO_STATE_DIR."
        ),
    ] = None,
    replace: Annotated[
        bool,
        typer.Option("--replace", help="Let a living worker of that name end, and take its place."),
    ] = False,
    flow_resolver: Annotated[
        str | None,
        typer.Option(
            help="Where flows of its own are: module:function or path/to/file.py:function."
        ),
    ] = None,
    slots: Annotated[
        int | None, typer.Option(min=1, help="Runs at the same time; one per core by default.")
    ] = None,
    wheel_sync: Annotated[
        bool | None,
        typer.Option(
            "--wheel-sync/--no-wheel-sync",
            help="Install the wheels of the registry, and keep up with it.",
        ),
    ] = None,
    wheel_sync_dir: Annotated[
        str | None, typer.Option(help="Folder that wheels are installed into.")
    ] = None,
    wheel_sync_interval_sec: Annotated[
        float | None, typer.Option(help="Seconds between two looks into the registry.")
    ] = None,
    wheel_install_timeout_sec: Annotated[
        float | None, typer.Option(help="Seconds that installing a wheel may take.")
    ] = None,
    poll_timeout: Annotated[
        float, seconds_option(help="Seconds that --run-once waits for a job.")
    ] = 1.0,
    run_once: Annotated[bool, typer.Option("--run-once", help="End after one job.")] = False,
    version: Version = False,  # noqa: ARG001 - it is printed before
) -> None:
    """Execute runs of the given tags until stopped."""
    overrides = {
        "PYOCO_NATS_URL": nats_url,
        "PYOCO_WHEEL_SYNC_ENABLED": None if wheel_sync is None else str(int(wheel_sync)),
        "PYOCO_WHEEL_SYNC_DIR": wheel_sync_dir,
        "PYOCO_WHEEL_SYNC_INTERVAL_SEC": wheel_sync_interval_sec,
        "PYOCO_WHEEL_INSTALL_TIMEOUT_SEC": wheel_install_timeout_sec,
    }
    settings = load_settings(
        {name: str(v) for name, v in overrides.items() if v is not None},
        defaults={"PYOCO_LOG_FORMAT": "text"} if sys.stderr.isatty() else None,
    )
    keep_secrets()
    collect_seldom()
    state_folder(settings)
    _check_task_user(settings)
    configure_logging(service="pyoco-server:worker", settings=settings)
    # A module that comes in a wheel may not be there yet.
    if flow_resolver is not None and not settings.wheel_sync_enabled:
        _check_resolver(flow_resolver)
    options = WorkerOptions(
        tags=read_tags(tags) or (settings.default_tag,),
        worker_id=worker_id,
        replace=replace,
        slots=1 if run_once else slots,
        flow_resolver=flow_resolver,
        limit=1 if run_once else None,
        # As `python -m` has it.
        import_paths=() if sys.flags.safe_path else (str(Path.cwd()),),
    )
    raise typer.Exit(trio.run(_work, settings, options, poll_timeout if run_once else None))


def _check_task_user(settings: Settings) -> None:
    if settings.worker_task_user is None:
        return
    try:
        TaskUser.named(settings.worker_task_user).check(Path(settings.state_dir))
    except (TaskUserError, OSError) as error:
        raise CliError(str(error), hint="docs/guides/deploy.md, Who executes tasks") from None


def _check_resolver(spec: str) -> None:
    try:
        check_flow_resolver(spec)
    except FlowResolverError as error:
        hint = "pyoco-worker --flow-resolver mypkg.flows:resolve_flow, or a file: flows.py:resolve_flow"
        if "ModuleNotFoundError" in str(error):
            hint = (
                f"start the worker in the folder of the module (this is {Path.cwd()}); or, where it comes in "
                "a wheel (pyoco-client wheel-build FOLDER), with --wheel-sync"
            )
        raise CliError(f"--flow-resolver: {error}", hint=hint) from None


async def _work(settings: Settings, options: WorkerOptions, wait_for_job: float | None) -> int:
    async with (
        stop_signals() as stop,
        open_backend(settings, gateway=False, worker=options, name="pyoco-worker") as backend,
        trio.open_nursery() as nursery,
    ):
        if wait_for_job is not None:

            async def one() -> None:
                try:
                    await backend.connection.wait_connected(within=_CONNECT_SECONDS)
                except BridgeError as error:
                    raise CliError(
                        str(error),
                        hint="check --nats-url (or PYOCO_NATS_URL), and that NATS runs there",
                        error_id=ErrorId.NATS_UNAVAILABLE,
                    ) from None
                await backend.worker_started()
                with trio.move_on_after(wait_for_job):
                    await backend.first_job()
                await backend.drain(within=float("inf"))
                nursery.cancel_scope.cancel()

            nursery.start_soon(one)

        async def drain() -> None:
            await backend.drain_ordered()
            stop.by_order()

        nursery.start_soon(drain)
        await stop.asked.wait()
        if stop.signalled and settings.worker_drain_timeout_sec:
            log.info(
                "stopping: what is executed may end first; asked again, nothing is waited for",
                seconds=settings.worker_drain_timeout_sec,
            )
        nursery.cancel_scope.cancel()
    if backend.worker_refusal is not None:
        raise CliError(str(backend.worker_refusal), hint="pyoco-worker --worker-id another-name")
    return stop.exit_code


def main(argv: Sequence[str] | None = None) -> int:
    """Run `pyoco-worker` and return its exit code: 0 done, 1 the user can mend it, 130 Ctrl-C."""
    return run(app, argv)
