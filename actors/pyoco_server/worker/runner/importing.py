"""Imports of users' code: what they do to the process that imports is told, with whose code it was."""

from __future__ import annotations

import faulthandler
import functools
import itertools
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import metadata
from importlib.machinery import PathFinder
from pathlib import Path

from pyoco_server.model.errors import NO_THREAD


class NotImported(Exception):
    """Code that cannot be imported; the text names module and distribution, and what it did."""


def place_of(module: str) -> str:
    """Return a module's name with that of the distribution that brings it, for people."""
    distribution = _distribution_of(module.partition(".")[0])
    return f"module {module!r}" + (f" of distribution {distribution!r}" if distribution else "")


def what_was_raised(error: BaseException) -> str:
    """Return the type of an exception and its text."""
    try:
        text = str(error)
    except Exception as unspeakable:  # noqa: BLE001 - the error's own code may raise anything
        text = f"(its text cannot be told: {type(unspeakable).__name__})"
    return f"{type(error).__name__}: {text}".rstrip(": ")


@contextmanager
def guarded(
    module: str, place: str | None, seconds: float, tell: Callable[[str], None]
) -> Iterator[None]:
    """Surround what imports a module, and turn all that it raises into `NotImported`.

    What does not end within its time takes this process along, with a trace of where it is on
    descriptor 2: code that is broken off in the middle of its import is good for nothing.

    Args:
        module: The module.
        place: What it is and whose, for people; None for its `place_of`.
        seconds: What its import may take.
        tell: Called with its place before it is imported for the first time, for the case that
            nothing can be told afterwards.

    Raises:
        NotImported: Something was raised, be it what is meant to end a program.
        RuntimeError: There is no thread to watch over its time.
    """
    first = module not in sys.modules
    if first:
        tell(place or place_of(module))
        try:
            faulthandler.dump_traceback_later(seconds, exit=True, file=2)
        except RuntimeError as error:
            raise RuntimeError(NO_THREAD) from error  # which watches over it
    try:
        yield
    except BaseException as error:  # a module's own code may raise anything
        raise NotImported(f"{place or place_of(module)} raised {what_was_raised(error)}") from error
    finally:
        if first:
            faulthandler.cancel_dump_traceback_later()


def wheel_of(module: str, folders: Sequence[str]) -> str | None:
    """The package that brings a module, where its wheel is installed in one of these folders."""
    found = _distribution_of(module.partition(".")[0], list(folders)) if folders else None
    return None if found is None else package_name(found.partition(" ")[0])


def package_name(name: str) -> str:
    """The name of a distribution as it is compared."""
    # As `packaging` does (PEP 503), which each child would have to import.
    return re.sub(r"[-_.]+", "-", name).lower()


def home_of(found: object) -> str:
    """Where a function, or what else can be called, comes from: its ``module:name``."""
    while isinstance(found, functools.partial):
        found = found.func
    module = getattr(found, "__module__", None)
    if not isinstance(module, str):  # a method of a built-in type, or what hides it
        module = type(found).__module__
    name = getattr(found, "__qualname__", None)
    return f"{module}:{name if isinstance(name, str) else type(found).__qualname__}"


def _distribution_of(package: str, folders: Sequence[str] | None = None) -> str | None:
    """The name and version of the distribution that brings a top-level module, as its RECORD says."""
    if package in sys.stdlib_module_names:
        return None
    # Only where the module is: to read what else is installed takes longer than all else that a run needs.
    for folder in _folders_of(package, folders):
        alike = metadata.distributions(name=package, path=[folder])
        for distribution in itertools.chain(alike, metadata.distributions(path=[folder])):
            # Not by `files`, which parses each line: it takes ten times as long.
            record = "\n" + (distribution.read_text("RECORD") or "")
            if f"\n{package}/" in record or f"\n{package}.py," in record:
                return f"{distribution.name} {distribution.version}"
    return None


def _folders_of(package: str, folders: Sequence[str] | None) -> Iterator[str]:
    """The folders that a top-level module comes from, of those on the import path or of these."""
    spec = PathFinder.find_spec(package, None if folders is None else list(folders))
    if spec is not None:
        for place in spec.submodule_search_locations or [spec.origin or ""]:
            yield str(Path(place).parent)
