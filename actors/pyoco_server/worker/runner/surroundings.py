"""What a run finds around it: a directory and environment variables of its own."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def surroundings(workdir: str | None, variables: Mapping[str, str]) -> Iterator[None]:
    """Set the current directory and environment variables; restore both, whatever the run did.

    Args:
        workdir: The directory, made when missing; ``None`` for the present one.
        variables: What to set besides the present variables.

    Raises:
        OSError: The directory cannot be made or entered.
    """
    # What `os.environ` stands for, without decoding all of it for each run (CPython's os.py, `_Environ`).
    stored: dict[bytes, bytes] = vars(os.environ)["_data"]
    directory, environment = os.getcwd(), stored.copy()  # noqa: PTH109 - nothing to parse
    try:
        os.environ.update(variables)
        if workdir is not None:
            try:
                os.chdir(workdir)
            except FileNotFoundError:
                Path(workdir).mkdir(parents=True)
                os.chdir(workdir)
        yield
    finally:
        os.chdir(directory)
        if stored != environment:
            for name in stored.keys() - environment.keys():
                del os.environb[name]
            for name, value in environment.items():
                if stored.get(name) != value:
                    os.environb[name] = value
