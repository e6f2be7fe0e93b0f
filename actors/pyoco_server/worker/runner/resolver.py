"""The function by which a worker knows its flows by name.

The worker itself never imports it: user code would be held in its memory, stale, for as long as it lives.
Whether it can be loaded is looked at in a process that ends again.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import secrets
import subprocess
import sys
from collections.abc import Callable
from operator import attrgetter
from pathlib import Path
from types import ModuleType
from typing import NoReturn, TypeAlias

from pyoco.core.models import Flow

from pyoco_server.worker.runner import kin
from pyoco_server.worker.runner.environment import inherited
from pyoco_server.worker.runner.importing import what_was_raised

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
    except BaseException as error:  # a module's own code may raise anything, to end a program too
        raise FlowResolverError(
            f"flow resolver {spec!r} cannot be loaded: {what_was_raised(error)}"
        ) from error
    if not callable(resolver):
        raise FlowResolverError(f"flow resolver {spec!r} is no function but {resolver!r}")
    return resolver  # type: ignore[no-any-return]  # what it returns is checked at each call


def _is_path(place: str) -> bool:
    return place.endswith(".py") or "/" in place


def _from_file(place: str) -> ModuleType:
    """Import a file as Python would from its folder, so that spawned processes find its functions too."""
    path = Path(place).expanduser().resolve()
    if path.suffix != ".py" or not path.is_file():
        raise FlowResolverError(f"flow resolver {place!r}: there is no Python file {path}")
    # What it imports lies beside it; `multiprocessing` hands the path on to what it spawns.
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))
    found = None if "." in path.stem else importlib.util.find_spec(path.stem)
    if found is not None and found.origin and Path(found.origin).resolve() == path:
        return importlib.import_module(path.stem)
    return _under_another_name(path)


def _under_another_name(path: Path) -> ModuleType:
    """Import a file whose own name is taken, by a module of Python's for example.

    Spawned processes do not find it: only a file of that name is found by its name.
    """
    name = "pyoco_worker_resolver_" + path.stem.replace(".", "_")
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
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
    token = secrets.token_hex(8)
    try:
        done = subprocess.run(  # noqa: S603 - what the operator named is what a worker is to execute
            [sys.executable, "-m", __name__, spec, token],
            env=inherited(os.environ),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_LONGEST_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return  # slow is not wrong: runs will show
    if token not in done.stdout:
        said = done.stderr.strip().rpartition("\n")[2]
        raise FlowResolverError(
            said
            or f"flow resolver {spec!r} ended the process that loads it, with {done.returncode}"
        )


def main() -> None:
    """Load a resolver and print the token; the last line of stderr says what is wrong."""
    kin.do_in_a_copy(_load)


def _load() -> NoReturn:
    spec, token = sys.argv[1:]
    try:
        load_flow_resolver(spec)
    except FlowResolverError as error:
        print(" ".join(str(error).split()), file=sys.__stderr__)
    else:
        print(token, file=sys.__stdout__)
    for stream in (sys.__stdout__, sys.__stderr__):
        if stream is not None:
            stream.flush()
    # Threads that it left would hold up an ordinary exit.
    os._exit(0)


if __name__ == "__main__":
    main()
