"""`pyoco-server backup` and `restore`: all that is ours in JetStream, out and in again."""

from __future__ import annotations

import time
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from pyoco_cli.client.app import show
from pyoco_cli.common.commands import NatsUrl
from pyoco_cli.common.errors import CliError
from pyoco_cli.common.formats import OutputFormat, OutputOption, chosen
from pyoco_cli.common.output import print_line
from pyoco_cli.server.nats import operator_settings, with_nats
from pyoco_cli.server.transfer import transfer_shown
from pyoco_server.model.counted import counted
from pyoco_server.model.errors import ErrorId
from pyoco_server.operations.archive import ArchiveUnusable, open_archive
from pyoco_server.operations.backup import backup as make_backup
from pyoco_server.operations.manifest import Manifest
from pyoco_server.operations.restore import RestoreFailed, RestoreRefused
from pyoco_server.operations.restore import restore as put_back
from pyoco_server.settings.environment import without_user


def backup(
    out: Annotated[
        str, typer.Option(metavar="FILE|DIR", help="Where to; a folder when it ends with '/'.")
    ],
    output: OutputOption = None,
    nats_url: NatsUrl = None,
) -> None:
    """Write all streams, buckets and wheels into a file or folder, while everything goes on.

    The file holds API keys' hashes and the params of runs: keep it as you keep them.
    """
    settings = operator_settings(nats_url)
    path = Path(out)
    folder = out.endswith("/") or path.is_dir()
    began = time.monotonic()
    try:
        with transfer_shown("out") as progress:
            work = partial(make_backup, out=path, folder=folder, progress=progress)
            manifest = with_nats(settings, work)
    except ArchiveUnusable as error:
        raise CliError(str(error), hint="pyoco-server backup --out FILE") from None
    _show("backup", path, manifest, time.monotonic() - began, {}, output)


def restore(
    source: Annotated[Path, typer.Option("--in", metavar="FILE|DIR", help="The backup.")],
    confirm: Annotated[bool, typer.Option("--confirm", help="Yes, do it.")] = False,
    replace: Annotated[
        bool, typer.Option("--replace", help="Even where the server holds data already.")
    ] = False,
    replicas: Annotated[
        int | None, typer.Option(min=1, max=5, help="Copies of each stream; as in the backup.")
    ] = None,
    output: OutputOption = None,
    nats_url: NatsUrl = None,
) -> None:
    """Make NATS hold what a backup holds: checked first, then all of it or nothing.

    Stop gateways and workers before. With --replace, what was there is kept as a backup in the state
    folder.
    """
    settings = operator_settings(nats_url)
    if not confirm:
        raise CliError(
            f"a restore replaces what NATS at {without_user(settings.nats_url)} holds of pyoco-server",
            hint=f"say that you mean it: pyoco-server restore --in {source} --confirm",
        )
    now = datetime.now(UTC)
    keep = Path(settings.state_dir) / f"replaced-{now:%Y%m%d-%H%M%S}.pyoco"
    began = time.monotonic()
    try:
        with open_archive(source) as archive, transfer_shown("in") as progress:
            work = partial(
                put_back,
                archive=archive,
                keep=keep,
                replace=replace,
                replicas=replicas,
                progress=progress,
            )
            done = with_nats(settings, work)
    except ArchiveUnusable as error:
        raise CliError(
            f"{source}: {error}", hint="nothing was touched; give --in a whole backup"
        ) from None
    except RestoreRefused as error:
        raise CliError(str(error), hint="nothing was touched") from None
    except RestoreFailed as error:
        raise CliError(
            str(error),
            hint="with too few servers for the backup's replicas: --replicas 1",
            error_id=ErrorId.NATS_UNAVAILABLE,
        ) from None
    more = {
        "kept": None if done.kept is None else str(done.kept),
        "resumed": done.resumed,
        "passed_ticks": None if done.passed is None else asdict(done.passed),
    }
    _show("restored", source, done.manifest, time.monotonic() - began, more, output)
    if chosen(output) is not OutputFormat.TABLE:
        return
    if done.passed is None:
        print_line("what becomes of the ticks that have passed since the backup is not known")
    elif done.passed.schedules:
        print_line(str(done.passed))


def _show(
    what: str,
    path: Path,
    manifest: Manifest,
    seconds: float,
    more: dict[str, Any],
    output: OutputFormat | None,
) -> None:
    size = sum(part.bytes for part in manifest.parts)
    messages = sum(stream.messages for stream in manifest.streams)
    if chosen(output) is OutputFormat.TABLE:
        print_line(
            f"{what} {path}: {counted(len(manifest.streams), 'stream')}, "
            f"{counted(messages, 'message')}, {size / 1e6:.1f} MB in {seconds:.1f} s"
        )
        if more.get("kept"):
            print_line(f"what was there before: {more['kept']}")
        return
    document = {
        "path": str(path),
        "streams": {part.stream: part.messages for part in manifest.streams},
        "late_jobs": manifest.late_job_count,
        "bytes": size,
        "seconds": round(seconds, 3),
        "created_at": manifest.created_at,
        "version": manifest.version,
        **more,
    }
    show(document, output)
