"""The function by which a worker knows its flows by name.

The worker itself never imports it: user code would be held in its memory, stale, for as long as it lives.
Whether it can be loaded is looked at in a process that ends again.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from operator import attrgetter
from pathlib import Path
from types import ModuleType
from typing import TypeAlias

from pyoco.core.models import Flow

from pyoco_server.worker.runner.environment import inherited

FlowResolver: TypeAlias = Callable[[str], Flow]
"""Makes the flow of a name; raises ``KeyError`` for a name that it does not know."""

_FORMS = "it takes module:function or path/file.py:function"
_LONGEST_SECONDS = 60.0


class FlowResolverError(Exception):
    """A flow resolver that cannot be loaded; the text says why."""


def load_flow_resolver(spec: str) -> FlowResolver:
    """Import a flow resolver.

    Args:
        spec: ``module:function`` or ``path/file.py:function``; the function may be an attribute
            of an attribute, e.g. ``flows:library.get``.

    Raises:
        FlowResolverError: There is no such function, or importing its module fails.
    """
    place, _, attribute = (part.strip() for part in spec.partition(":"))
    if not place or not attribute:
        raise FlowResolverError(f"flow resolver {spec!r}: {_FORMS}")
    try:
        module = _from_file(place) if _is_path(place) else importlib.import_module(place)
        resolver = attrgetter(attribute)(module)
    except FlowResolverError:
        raise
    except Exception as error:  # a module's own code may raise anything
        raise FlowResolverError(
            f"flow resolver {spec!r} cannot be loaded: {type(error).__name__}: {error}"
        ) from error
    if not callable(resolver):
        raise FlowResolverError(f"flow resolver {spec!r} is no function but {resolver!r}")
    return resolver  # type: ignore[no-any-return]  # what it returns is checked at each call


def _is_path(place: str) -> bool:
    return place.endswith(".py") or "/" in place


def _from_file(place: str) -> ModuleType:
    path = Path(place).expanduser().resolve()
    name = f"pyoco_worker_resolver_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise FlowResolverError(f"flow resolver {place!r}: there is no Python file {path}")
    module = importlib.util.module_from_spec(spec)
    # Registered like any import, or a dataclass in the file could not look up its annotations.
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def check_flow_resolver(spec: str) -> None:
    """Load a flow resolver once, elsewhere. Blocks for as long as its imports take, at most a minute.

    Raises:
        FlowResolverError: It cannot be loaded.
    """
    try:
        done = subprocess.run(  # noqa: S603 - what the operator named is what a worker is to execute
            [sys.executable, "-m", __name__, spec],
            env=inherited(os.environ),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_LONGEST_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return  # slow is not wrong: runs will show
    if done.returncode != 0:
        raise FlowResolverError(
            done.stderr.strip().rpartition("\n")[2] or f"ended with {done.returncode}"
        )


def main() -> None:
    """Load the resolver that the command line names; the last line of stderr says what is wrong."""
    try:
        load_flow_resolver(sys.argv[1])
    except FlowResolverError as error:
        sys.exit(" ".join(str(error).split()))


if __name__ == "__main__":
    main()
