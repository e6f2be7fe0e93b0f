"""The function by which a worker knows its flows by name."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable
from operator import attrgetter
from pathlib import Path
from types import ModuleType
from typing import TypeAlias

from pyoco.core.models import Flow

FlowResolver: TypeAlias = Callable[[str], Flow]
"""Makes the flow of a name; raises ``KeyError`` for a name that it does not know."""

_FORMS = "it takes module:function or path/file.py:function"


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
