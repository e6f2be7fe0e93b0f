"""`wheel-build`: a wheel of a folder of tasks, built and uploaded in one step."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pyoco_cli.client.app import OutputOption, show
from pyoco_cli.client.connection import gateway
from pyoco_cli.common.errors import CliError
from pyoco_cli.common.parameters import split_tags


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
    from pyoco_cli.client.wheel_sending import Sender, build, checked_build  # noqa: PLC0415
    from pyoco_cli.common.wheel_dependencies import Target, download  # noqa: PLC0415
    from pyoco_cli.common.wheel_project import BadFolder, read_project, scratch_folder  # noqa: PLC0415

    if no_upload and out is None:
        raise CliError("--no-upload keeps nothing without --out", hint="--out .")
    try:
        project = read_project(folder, name)
        with scratch_folder() as scratch:
            place = out or scratch
            make = checked_build if check_import else build
            target = Target(python_version, tuple(platform or ())) if with_deps else None
            if no_upload:
                built = make(project, version or project.version, place)
                brought = [] if target is None else download(built, target, place)
                names = [path.name for path in brought]
                document = {"name": built.name, "path": str(built), "dependencies": names}
                show(document, output, "built")
                return
            with gateway(context) as client:
                sender = Sender(client, split_tags(tags), shared, target)
                if version is None and bump:
                    wheel = sender.send_rising(project, place, make)
                else:
                    wheel = sender.send(make(project, version or project.version, place))
                show(wheel, output, "uploaded")
    except BadFolder as error:
        raise CliError(str(error), hint="pyoco-client wheel-build my_tasks") from None
