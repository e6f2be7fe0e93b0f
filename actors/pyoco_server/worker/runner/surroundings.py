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
    directory, environment = Path.cwd(), dict(os.environ)
    try:
        os.environ.update(variables)
        if workdir is not None:
            Path(workdir).mkdir(parents=True, exist_ok=True)
            os.chdir(workdir)
        yield
    finally:
        os.chdir(directory)
        for name in os.environ.keys() - environment.keys():
            del os.environ[name]
        for name, value in environment.items():
            if os.environ.get(name) != value:
                os.environ[name] = value
