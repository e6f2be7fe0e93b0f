"""`artifacts`: what a run saved, listed or fetched."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pyoco_cli.client.app import OutputOption, RunId, show
from pyoco_cli.client.connection import gateway
from pyoco_cli.client.run_ids import whole_id
from pyoco_cli.common.errors import CliError
from pyoco_cli.common.language import Phrase
from pyoco_server.model.errors import ErrorId

if TYPE_CHECKING:
    from pyoco_server.client import PyocoHttpClient
    from pyoco_server.client.answers import ArtifactDict


def artifacts(
    context: typer.Context,
    run_id: RunId,
    *,
    name: Annotated[
        str | None, typer.Option("--get", metavar="NAME", help="Fetch this artifact.")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Fetch all of them.")] = False,
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Folder to fetch into.")
    ] = Path(),
    force: Annotated[
        bool, typer.Option("--force", help="Also over files that hold something else.")
    ] = False,
    output: OutputOption = None,
) -> None:
    """List what a run saved, or fetch it and compare its digest.

    Nothing is fetched where a file that is there holds something else, unless --force is given.
    """
    with gateway(context) as client:
        run_id = whole_id(client, run_id)
        listing = client.list_artifacts(run_id)
        if name is None and not every:
            show(
                listing,
                output,
                "run_views:artifacts_table",
                items=lambda found: found["artifacts"],
                columns=("name", "size_bytes", "task"),
            )
            return
        wanted = [
            artifact for artifact in listing["artifacts"] if every or artifact["name"] == name
        ]
        if not wanted and not every:
            raise CliError(
                f"run {run_id} has no artifact {name!r}", hint=f"pyoco-client artifacts {run_id}"
            )
        fetched = _fetch_all(client, run_id, wanted, out, force=force)
    show(fetched, output, "run_views:fetched")


def _fetch_all(
    client: PyocoHttpClient,
    run_id: str,
    artifacts: Sequence[ArtifactDict],
    out: Path,
    *,
    force: bool,
) -> list[dict[str, Any]]:
    """Look at all places, and then fetch what is not there; return the artifacts with their paths."""
    places = [_place(out, str(artifact["name"])) for artifact in artifacts]
    wanted = list(zip(artifacts, places, strict=True))
    present = {path for artifact, path in wanted if _holds(path, artifact)}
    missing = [(artifact, path) for artifact, path in wanted if path not in present]
    # A link that leads nowhere would be lost, too.
    in_the_way = [path for _, path in missing if os.path.lexists(path)]
    if in_the_way and not force:
        raise CliError(
            f"nothing was fetched, as it would be written over {', '.join(map(str, in_the_way))}",
            hint="--out another-folder, or --force to write over them",
        )
    for artifact, path in missing:
        _fetch(client, run_id, str(artifact["name"]), path)
    return [{**artifact, "path": str(path)} for artifact, path in wanted]


def _holds(path: Path, artifact: ArtifactDict) -> bool:
    """Whether a file has the content of an artifact already."""
    try:
        if not path.is_file() or path.stat().st_size != artifact["size_bytes"]:
            return False
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == artifact["sha256_hex"]
    except OSError:
        return False


def _fetch(client: PyocoHttpClient, run_id: str, name: str, path: Path) -> None:
    from pyoco_server.client import DamagedDownload  # noqa: PLC0415 - with httpx, see app.py

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Under another name until it is complete and right.
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".", delete=False) as file:
            try:
                client.download_artifact(run_id, name, file)  # type: ignore[arg-type]
                file.close()
                Path(file.name).rename(path)
            except BaseException:
                Path(file.name).unlink(missing_ok=True)
                raise
    except DamagedDownload as error:
        raise CliError(
            str(error), hint=Phrase.CHECK_REQUEST, error_id=ErrorId.INVALID_INPUT
        ) from None
    except OSError as error:
        raise CliError(f"cannot write {path}: {error}", hint=Phrase.CHECK_FILE) from None


def _place(out: Path, name: str) -> Path:
    """Where to write an artifact, whatever name the gateway tells.

    Raises:
        CliError: The name leads out of the folder.
    """
    from pyoco_server.model.artifact import InvalidArtifactName, check_name  # noqa: PLC0415

    root = out.resolve()
    path = root / name
    why = None
    try:
        check_name(name)
    except InvalidArtifactName as error:
        why = str(error)
    else:
        # Also not by a link that lies in the folder.
        if not Path(os.path.realpath(path.parent)).is_relative_to(root):
            why = "a link in the folder leads out of it"
    if why is not None:
        raise CliError(
            f"artifact {name!r} cannot be written into {out}: {why}", hint=Phrase.CHECK_FILE
        )
    return path
