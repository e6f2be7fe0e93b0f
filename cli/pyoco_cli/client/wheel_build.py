"""`wheel-build`: a wheel of a folder of tasks, built and uploaded in one step."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pyoco_cli.client.app import OutputOption, show
from pyoco_cli.client.connection import gateway, refusal
from pyoco_cli.common.errors import CliError
from pyoco_cli.common.parameters import split_tags

if TYPE_CHECKING:
    from pyoco_cli.client.wheel_sending import Sender
    from pyoco_cli.common.wheel_project import Project
    from pyoco_server.client.answers import WheelItemDict


def wheel_build(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of the tasks.")],
    *,
    name: Annotated[
        str | None, typer.Option(help="Package name; the folder's name if absent.")
    ] = None,
    version: Annotated[str | None, typer.Option(help="Version to give it.")] = None,
    bump: Annotated[
        bool, typer.Option("--bump/--no-bump", help="Raise the version above the registry's.")
    ] = True,
    tags: Annotated[
        str | None, typer.Option(help="Workers that it is for, with commas; all if absent.")
    ] = None,
    shared: Annotated[
        bool, typer.Option("--shared", help="For all tenants; takes an admin's key.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Keep the wheel here too.")
    ] = None,
    no_upload: Annotated[
        bool, typer.Option("--no-upload", help="Build only; takes --out.")
    ] = False,
    check_import: Annotated[
        bool,
        typer.Option(
            "--check-import/--no-check-import", help="Import what it holds, as a worker would."
        ),
    ] = True,
    with_deps: Annotated[
        bool,
        typer.Option("--with-deps", help="Bring what it depends on too, as wheels that pip finds."),
    ] = False,
    python_version: Annotated[
        str | None, typer.Option(help="Python of the workers, such as 3.12; this one if absent.")
    ] = None,
    platform: Annotated[
        list[str] | None,
        typer.Option(help="Platform of the workers, such as manylinux_2_28_x86_64; repeatable."),
    ] = None,
    output: OutputOption = None,
) -> None:
    """Build a wheel of a folder and upload it."""
    # Here, because only this command builds.
    from pyoco_cli.client.wheel_sending import Sender  # noqa: PLC0415
    from pyoco_cli.common.wheel_dependencies import Target, download  # noqa: PLC0415
    from pyoco_cli.common.wheel_project import BadFolder, read_project  # noqa: PLC0415

    if no_upload and out is None:
        raise CliError("--no-upload keeps nothing without --out", hint="--out .")
    try:
        project = read_project(folder, name)
        with tempfile.TemporaryDirectory(prefix="pyoco-wheel-") as scratch:
            place = out or Path(scratch)
            build = _checked_build if check_import else _build
            target = Target(python_version, tuple(platform or ())) if with_deps else None
            if no_upload:
                built = build(project, version or project.version, place)
                brought = [] if target is None else download(built, target, place)
                names = [path.name for path in brought]
                document = {"name": built.name, "path": str(built), "dependencies": names}
                show(document, output, "built")
                return
            with gateway(context) as client:
                sender = Sender(client, split_tags(tags), shared, target)
                if version is None and bump:
                    show(_upload_bumped(sender, project, place, build), output, "uploaded")
                else:
                    built = build(project, version or project.version, place)
                    show(sender.send(built), output, "uploaded")
    except BadFolder as error:
        raise CliError(str(error), hint="pyoco-client wheel-build my_tasks") from None


def _build(project: Project, version: str | None, out: Path) -> Path:
    from pyoco_cli.common.wheel_project import build_wheel  # noqa: PLC0415

    out.mkdir(parents=True, exist_ok=True)
    return build_wheel(project, version, out)


def _checked_build(project: Project, version: str | None, out: Path) -> Path:
    """Build a wheel that can be imported; no other one stays.

    Raises:
        BadFolder: It cannot be built, or not be imported; the text says why.
    """
    from pyoco_cli.common.wheel_project import BadFolder  # noqa: PLC0415
    from pyoco_cli.common.wheel_trial import try_import  # noqa: PLC0415
    from pyoco_cli.configuration import load_settings  # noqa: PLC0415

    built = _build(project, version, out)
    try:
        untried = try_import(built, load_settings().worker_import_timeout_sec)
    except BadFolder:
        built.unlink()
        raise
    for each in untried:
        typer.echo(
            f"not tried: {each.place} needs {each.missing!r}, which is not here; workers need it",
            err=True,
        )
    return built


def _upload_bumped(
    sender: Sender,
    project: Project,
    out: Path,
    build: Callable[[Project, str | None, Path], Path],
) -> WheelItemDict:
    """Upload with a version above what is in the registry, and above what once was, if need be."""
    from pyoco_cli.common.wheel_project import next_version, rising_version  # noqa: PLC0415
    from pyoco_server.client import HttpProblem  # noqa: PLC0415

    present = [str(wheel["version"]) for wheel in sender.present(project.package)]
    try:
        return sender.send(build(project, rising_version(project, present), out))
    except HttpProblem as problem:
        latest = problem.extra.get("latest_version")
        if problem.status != 409 or not isinstance(latest, str):
            raise refusal(problem) from None
    return sender.send(_build(project, next_version([latest]), out))
