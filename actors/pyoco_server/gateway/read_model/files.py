"""Which file a gateway keeps its read model in: one that no other process has."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import structlog

log = structlog.get_logger(__name__)

_MOST_GATEWAYS: Final = 64


@contextmanager
def claimed_file(state_dir: Path) -> Iterator[Path]:
    """The first file of ``state_dir``/read_model that is free; it is this process's inside of the block.

    A gateway that starts again finds its file of before, unless another one was quicker: the files are copies
    of the same bucket, so it does not matter. Where the folder cannot be used, the file is a temporary one.
    """
    try:
        descriptor, path = _claim(state_dir / "read_model")
    except OSError as error:
        log.warning(
            "read model kept in a temporary file, and built again at each start",
            reason=f"{error.filename or state_dir}: {error.strerror or error}",
        )
        with tempfile.TemporaryDirectory(prefix="pyoco-read-model-") as folder:
            yield Path(folder) / "0.sqlite3"
        return
    try:
        yield path
    finally:
        os.close(descriptor)


def _claim(folder: Path) -> tuple[int, Path]:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(_MOST_GATEWAYS):
        # A lock ends with the process that holds it, however that ends.
        descriptor = os.open(
            folder / f"{number}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
        )
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
        except BaseException:  # whatever it was: the descriptor must not stay open
            os.close(descriptor)
            raise
        else:
            return descriptor, folder / f"{number}.sqlite3"
    raise OSError(None, f"{_MOST_GATEWAYS} gateways hold a file there already", str(folder))
