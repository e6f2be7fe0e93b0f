"""Sending a wheel, with a progress bar where a person looks."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from pyoco_cli.common.errors import CliError
from pyoco_cli.common.language import Phrase

if TYPE_CHECKING:
    from pyoco_server.client import PyocoHttpClient
    from pyoco_server.client.answers import WheelItemDict


def upload(client: PyocoHttpClient, path: Path, **options: Any) -> WheelItemDict:
    """Upload a wheel file; the options are those of ``upload_wheel``.

    Raises:
        CliError: It cannot be read.
    """
    with _opened(path) as file:
        return client.upload_wheel(filename=path.name, data=file, **options)


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    try:
        file = path.open("rb")
    except OSError as error:
        raise unreadable(path, error) from None
    with file:
        if not sys.stderr.isatty():
            yield file
            return
        # Here, because rich would cost every command a noticeable time.
        from rich.console import Console  # noqa: PLC0415
        from rich.progress import wrap_file  # noqa: PLC0415

        with wrap_file(
            file,
            total=path.stat().st_size,
            description=path.name,
            console=Console(file=sys.stderr),
            transient=True,
        ) as watched:
            yield watched


def unreadable(path: Path, error: OSError) -> CliError:
    """What to tell of a wheel file that cannot be read."""
    return CliError(f"failed to read --wheel-file: {path} ({error})", hint=Phrase.CHECK_FILE)
