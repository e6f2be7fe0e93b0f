"""`cd tests && uv run python -m costs`: prints what a run costs, beside what it may."""

from __future__ import annotations

import tempfile
from pathlib import Path

from costs.ceilings import ceilings, table
from costs.measure import measured

with tempfile.TemporaryDirectory() as folder:
    costs = measured(Path(folder))
print("\n".join(table(costs, ceilings())))
print("\nA second in which nothing happens, which is part of the above:")
print(", ".join(f"{row} {count:g}" for row, count in costs["idle"].items() if count))
