"""`pyoco-server dev`: everything on this machine, restarting what runs your code when it changes."""

from __future__ import annotations

import math
import os
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import trio
import typer
from msgspec.structs import replace
from rich.console import Console
from rich.markup import escape
from watchfiles import Change, DefaultFilter, awatch

from pyoco_cli.common.errors import CliError, leaves
from pyoco_cli.common.option_groups import with_options
from pyoco_cli.common.parameters import ParamOptions, collect_params, read_tags
from pyoco_cli.configuration import collect_seldom, keep_secrets, load_settings, start_failure
from pyoco_cli.server.dev_wheel import FolderWheel, check_options, python_path_without
from pyoco_cli.server.embedded import NatsStore, NatsSync, node_in_state_dir
from pyoco_cli.server.exposure import InsecureBind, exposed
from pyoco_cli.server.keys import pressed_keys
from pyoco_cli.server.progress import RunProgress
from pyoco_cli.server.results import PrintedLines, print_result
from pyoco_cli.server.session import LocalSession, open_session, run_flow, usual_or_free
from pyoco_cli.signals import stop_signals
from pyoco_http.server import PortBusy
from pyoco_server.gateway.read_model.filters import RunFilter
from pyoco_server.jetstream.errors import BridgeError
from pyoco_server.kernel import Refusal
from pyoco_server.logs import configure_logging
from pyoco_server.model.errors import FlowFileError
from pyoco_server.model.flow.file import parse_flow_yaml
from pyoco_server.model.run import RunSnapshot, RunStatus
from pyoco_server.node import Node, NodeFailed
from pyoco_server.settings import Settings
from pyoco_server.worker.runner.protocol import Output
from pyoco_server.worker.tree import WorkerOptions

# Whoever reaches it may have anything executed here: it asks nobody for a key.
_NATS_HOST = "127.0.0.1"
_LOOK_SECONDS = 2.0
_MOST_NAMED = 50


@with_options(values=ParamOptions)
def dev(
    flow: Annotated[Path | None, typer.Argument(help="A flow.yaml to run first.")] = None,
    tags: Annotated[str | None, typer.Option(help="Tags that the worker takes: a,b.")] = None,
    flow_resolver: Annotated[
        str | None,
        typer.Option(help="Where the worker's own flows are: module:function or file.py:function."),
    ] = None,
    slots: Annotated[int | None, typer.Option(min=1, help="Runs at the same time.")] = None,
    host: Annotated[
        str, typer.Option(help="Address that HTTP listens on; NATS stays on 127.0.0.1.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Wanted HTTP port.")] = 8000,
    nats_port: Annotated[int, typer.Option(min=0, max=65535, help="Wanted NATS port.")] = 4222,
    nats_store: NatsStore = None,
    nats_sync: NatsSync = True,
    log_level: Annotated[
        str | None,
        typer.Option(
            help="debug, info, warning or error; overrides PYOCO_LOG_LEVEL.", show_default="error"
        ),
    ] = None,
    wheel: Annotated[
        bool,
        typer.Option("--wheel", help="Run from a wheel of this folder, built anew on each change."),
    ] = False,
    *,
    values: ParamOptions,
    insecure_bind: InsecureBind = False,
) -> None:
    """Run NATS, gateway and worker here, with data under .pyoco/, until Ctrl-C.

    Task code of this folder and of that of the flow.yaml can be imported; when it changes, slots take
    a fresh process before their next run. A flow.yaml that is given runs at once, and again each time
    it is saved.

    With --wheel, runs see what workers elsewhere would: a wheel of the folder that is built and
    uploaded to the registry here at the start and on each change, and nothing else of the folder.
    """
    wanted = read_tags(tags)
    settings = load_settings(
        {"PYOCO_LOG_FORMAT": "text"} | ({"PYOCO_LOG_LEVEL": log_level} if log_level else {}),
        # Who develops wants the next run now: what goes on is ended, or given back.
        defaults={
            "PYOCO_LOG_LEVEL": "ERROR",
            "PYOCO_WORKER_DRAIN_TIMEOUT_SEC": "0",
            "PYOCO_CANCEL_GRACE_PERIOD_SEC": "1",
        },
    )
    keep_secrets()
    collect_seldom()
    settings = exposed(settings, host, insecure=insecure_bind)
    configure_logging(service="pyoco-server:http", settings=settings)
    console = Console()
    lines = PrintedLines(console)
    params = collect_params(**values)
    if params and flow is None:
        raise CliError(
            "params are those of a flow.yaml, and none is given",
            hint="pyoco-server dev flow.yaml --param x=1",
        )
    if flow is not None and not flow.is_file():
        raise CliError(f"{flow} is no file", hint="pyoco-server init writes a flow.yaml")
    folder = Path.cwd()
    built = None
    if wheel:
        check_options(folder, Path(settings.state_dir).resolve(), flow_resolver)
        built = FolderWheel.that_can_be_built(folder, console)
    if built is not None:
        settings = replace(settings, wheel_sync_enabled=True)
    worker = WorkerOptions(
        tags=wanted or (settings.default_tag,),
        worker_id="dev",
        slots=slots,
        flow_resolver=flow_resolver,
        import_paths=() if built else tuple(map(str, _code_folders(flow))),
        env=python_path_without(folder) if built else {},
        output=partial(_print, lines, built),
    )
    node = node_in_state_dir(
        settings,
        host=_NATS_HOST,
        port=usual_or_free(_NATS_HOST, nats_port),
        store=nats_store,
        sync_always=nats_sync,
    )
    first = None if flow is None else _Flow(flow, params, worker.tags[0], settings)
    raise typer.Exit(trio.run(_dev, settings, worker, node, first, built, host, port, lines))


@dataclass(frozen=True)
class _Flow:
    """The flow.yaml that is run, and the params that go over its defaults."""

    path: Path
    params: dict[str, Any]
    tag: str
    settings: Settings


def _print(lines: PrintedLines, wheel: FolderWheel | None, output: Output, _slot: int) -> None:
    # A process that was started before there was a wheel has nothing to import, and complains of it.
    if wheel is None or output.run_id is not None:
        lines.take(output)


async def _dev(
    settings: Settings,
    worker: WorkerOptions,
    node: AbstractAsyncContextManager[Node],
    flow: _Flow | None,
    wheel: FolderWheel | None,
    host: str,
    port: int,
    lines: PrintedLines,
) -> int:
    given_back: list[str] = []
    try:
        async with (
            stop_signals() as stop,
            open_session(settings, worker, node, host=host, port=port) as session,
            pressed_keys() as keys,
            trio.open_nursery() as nursery,
        ):
            _greet(lines.console, session, worker, settings, flow.path if flow else None)
            nursery.start_soon(
                _follow_code, session, flow, wheel, Path(settings.state_dir), keys, lines
            )
            await stop.asked.wait()
            lines.console.print("[dim]stopping …[/dim]")
            given_back = await _executing(session)
            nursery.cancel_scope.cancel()
    except* (PortBusy, NodeFailed) as group:
        raise start_failure(group, "--port, --nats-port") from None
    for run_id in given_back:
        lines.console.print(
            f"[dim]given back: run {run_id}, which begins anew with the next dev[/dim]",
            highlight=False,
        )
    return stop.exit_code


async def _executing(session: LocalSession) -> list[str]:
    """The runs that the worker is at."""
    wanted = RunFilter(
        statuses=(RunStatus.RUNNING, RunStatus.CANCELLING), worker_id=session.backend.worker_id
    )
    with trio.move_on_after(_LOOK_SECONDS):
        page = await session.backend.reads.list_runs(wanted, None, _MOST_NAMED)
        return [row.run_id for row in page.rows]
    return []


def _greet(
    console: Console,
    session: LocalSession,
    worker: WorkerOptions,
    settings: Settings,
    flow: Path | None,
) -> None:
    tag = worker.tags[0]
    console.print(f"dashboard  {session.url}/", highlight=False)
    console.print(f"HTTP API   {session.url}", highlight=False)
    console.print(f"NATS       {session.node.url}", highlight=False)
    console.print(f"worker     dev, tags {','.join(worker.tags)}", highlight=False)
    console.print(
        f"data       {Path(settings.state_dir).resolve()}", highlight=False, soft_wrap=True
    )
    console.print(
        f"[dim]try        pyoco-client --server {session.url} submit-yaml "
        f"--workflow-file {flow or 'flow.yaml'} --flow-name main --tag {tag}[/dim]",
        highlight=False,
        soft_wrap=True,  # in one piece, to be copied
    )
    console.print("[dim]stop with Ctrl-C[/dim]")


async def _follow_code(
    session: LocalSession,
    flow: _Flow | None,
    wheel: FolderWheel | None,
    state_dir: Path,
    keys: AsyncIterator[str] | None,
    lines: PrintedLines,
) -> None:
    """Run the flow; then on every change take fresh children, and run the flow again."""
    send, changed = trio.open_memory_channel[set[str]](math.inf)
    changes = _Changes(changed, lines.console)
    async with trio.open_nursery() as nursery:
        # From before the first run on: who saves while it is going on wants the next one.
        path = None if flow is None else flow.path
        nursery.start_soon(_watch_code, path, wheel, state_dir, send, lines.console)
        nursery.start_soon(_take_keys, keys, changes)
        if wheel is not None:
            await wheel.renew(session.backend)
        if flow is not None:
            await _run(session, flow, changes, lines)
        while True:
            names = await changes.taken()
            lines.console.print(f"\n[dim]changed: {escape(', '.join(sorted(names)))}[/dim]")
            if wheel is None:
                await session.backend.refresh_slots()
            elif flow is None or names != {_shown(flow.path, Path.cwd())}:
                await wheel.renew(session.backend)
            if flow is not None:
                await _run(session, flow, changes, lines)


class _Changes:
    """What was saved since the last run began, and whether the person wants the next one at once."""

    def __init__(self, coming: trio.MemoryReceiveChannel[set[str]], console: Console) -> None:
        self._coming = coming
        self._console = console
        self._names: set[str] = set()
        self.restart = trio.Event()
        self.has_keys = False

    async def taken(self) -> set[str]:
        """What was saved; waits for it where nothing was."""
        names = self._names or set(await self._coming.receive())
        with suppress(trio.WouldBlock):
            while True:  # one run for all that was saved meanwhile
                names |= self._coming.receive_nowait()
        self._names = set()
        self.restart = trio.Event()
        return names

    async def told(self) -> None:
        """Say once, while a run goes on, that there will be another one; ends with its cancellation."""
        async for names in self._coming:
            if not self._names:
                key = ", press r to restart now" if self.has_keys else ""
                text = f"changed; running again when this ends{key}"
                self._console.print(f"[dim]{text}[/dim]", highlight=False)
            self._names |= names

    def press(self, key: str) -> None:
        """Take a key of the person."""
        if key in {"r", "R"} and self._names:
            self.restart.set()


async def _take_keys(keys: AsyncIterator[str] | None, changes: _Changes) -> None:
    if keys is None:
        return
    changes.has_keys = True
    async for key in keys:
        changes.press(key)


async def _watch_code(
    flow: Path | None,
    wheel: FolderWheel | None,
    state_dir: Path,
    changed: trio.MemorySendChannel[set[str]],
    console: Console,
) -> None:
    root = Path.cwd()
    code = _SourceFilter(flow, wheel, state_dir)
    watched: list[Path] = []
    for folder in _code_folders(flow):
        watched += await trio.to_thread.run_sync(_watched, folder)
    try:
        async for changes in awatch(
            *watched, watch_filter=code, step=100, ignore_permission_denied=True
        ):
            await changed.send({_shown(path, root) for _, path in changes})
    except* OSError as group:
        why = escape(str(next(leaves(group))))
        console.print(f"[yellow]changes are not seen: {why}[/yellow]", soft_wrap=True)


def _watched(folder: Path) -> list[Path]:
    """A folder; where one in it cannot be read, at which its watch would end, each by itself as well."""
    inside = [Path(parent, name) for parent, names, _ in os.walk(folder) for name in names]
    closed = any(not os.access(each, os.R_OK) for each in inside)
    return [folder, *(inside if closed else ())]


def _code_folders(flow: Path | None) -> list[Path]:
    """The folder of the flow.yaml, whose code stands beside it, and the present one."""
    own = [] if flow is None else [flow.resolve().parent]
    return list(dict.fromkeys([*own, Path.cwd()]))


def _shown(path: str | Path, root: Path) -> str:
    """A path as the user knows it: relative, where it is below or beside the folder."""
    return os.path.relpath(path, root)


async def _run(session: LocalSession, flow: _Flow, changes: _Changes, lines: PrintedLines) -> None:
    try:
        most = flow.settings.workflow_yaml_max_bytes
        file = parse_flow_yaml(flow.path.read_bytes(), max_bytes=most)
    except (OSError, FlowFileError) as error:
        _say_wrong(lines, flow, error)
        return
    progress = RunProgress(lines)

    async def restart() -> None:
        await changes.restart.wait()
        if progress.run_id is not None:
            await session.backend.cancel(progress.run_id, reason="its code changed")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(changes.told)
        nursery.start_soon(restart)
        snapshot: RunSnapshot | None = None
        try:
            snapshot = await run_flow(session.backend, file, flow.tag, progress, flow.params)
        except (Refusal, BridgeError) as error:  # too large, or NATS is away
            _say_wrong(lines, flow, error)
        nursery.cancel_scope.cancel()
    if snapshot is not None:
        lines.end(snapshot.run_id)
        print_result(lines.console, snapshot)


def _say_wrong(lines: PrintedLines, flow: _Flow, error: Exception) -> None:
    text = escape(f"{flow.path}: {error}")
    lines.console.print(f"[red]{text}[/red]", highlight=False, soft_wrap=True)


class _SourceFilter(DefaultFilter):
    """Python files of the project and the flow.yaml, and what goes into its wheel; not what runs write."""

    def __init__(self, flow: Path | None, wheel: FolderWheel | None, state_dir: Path) -> None:
        super().__init__(ignore_paths=[str(state_dir.resolve())])
        self._flow = None if flow is None else str(flow.resolve())
        self._wheel = wheel

    def __call__(self, change: Change, path: str) -> bool:
        if not super().__call__(change, path):
            return False
        if path == self._flow or path.endswith(".py"):
            return True
        return self._wheel is not None and self._wheel.holds(Path(path))
