"""Loads a patch into a process of the cast: a copy named ``sitecustomize``, which Python imports first.

The patch is the module ``broken``: its ``BREAK`` names what it replaces, as ``module:Class.function``, and
for each a function that is given the original and returns what takes its place. What was replaced, and
what could not be found, is written into the file ``replaced`` beside the patch.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import broken  # type: ignore[import-not-found] # beside this file where it is used

_REPLACED = Path(__file__).with_name("replaced")


class _Breaker(importlib.abc.MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if all(name.partition(":")[0] != fullname for name in broken.BREAK):
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader)
        return spec


class _Loader(importlib.abc.Loader):
    def __init__(self, loader: importlib.abc.Loader) -> None:
        self._loader = loader

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        for name, make in broken.BREAK.items():
            where, _, path = name.partition(":")
            if where == module.__name__:
                _replace(module, name, path.split("."), make)


def _replace(module: ModuleType, name: str, path: list[str], make: object) -> None:
    owner: object = module
    try:
        for part in path[:-1]:
            owner = getattr(owner, part)
        original = getattr(owner, path[-1])
    except AttributeError:
        _tell(f"missing {name}")
        sys.exit(f"the patch finds no {name}")
    setattr(owner, path[-1], make(original))  # type: ignore[operator]
    _tell(f"replaced {name}")


def _tell(text: str) -> None:
    with _REPLACED.open("ab", buffering=0) as file:  # one short write: lines do not mix
        file.write(text.encode() + b"\n")


sys.meta_path.insert(0, _Breaker())
