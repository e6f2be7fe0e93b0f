"""Imports what a run wrote into its own folder, as what unpacks code does; untyped, as most users' are."""

# mypy: allow-untyped-defs, allow-untyped-calls

import importlib
import sys
from pathlib import Path


def bring(path, module, value):
    file = Path(path)
    file.parent.mkdir(exist_ok=True)
    file.write_text(f"VALUE = {value!r}\n")
    sys.path.insert(0, str(Path.cwd()))
    return importlib.import_module(module).VALUE
