"""What a run may cost at most, as it is committed."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TypeAlias

Costs: TypeAlias = Mapping[str, Mapping[str, float]]
"""By case and row."""


def ceilings() -> dict[str, dict[str, float]]:
    """What `ceilings.toml` says."""
    found: dict[str, dict[str, float]] = tomllib.loads(
        (Path(__file__).parent / "ceilings.toml").read_text()
    )
    return found


def too_high(costs: Costs, limits: Costs) -> Iterator[str]:
    """Each row that costs more than it may, in words; each that was not measured is one of them."""
    for case, rows in limits.items():
        for row, ceiling in rows.items():
            found = costs.get(case, {}).get(row)
            if found is None:
                yield f"{case} {row}: not measured"
            elif found > ceiling:
                yield f"{case} {row}: {found:.2f} a run, the ceiling is {ceiling:g}"


def least(first: Costs, *others: Costs) -> dict[str, dict[str, float]]:
    """The least that each row was seen to cost: what else a machine does adds wake-ups, and takes none."""
    return {
        case: {row: min(costs[case][row] for costs in (first, *others)) for row in rows}
        for case, rows in first.items()
    }


def table(costs: Costs, limits: Costs) -> Iterator[str]:
    """What was measured beside what it may be, a line a row."""
    yield f"{'a run':24}" + "".join(f"{case:>12}{'ceiling':>10}" for case in limits)
    for row in next(iter(costs.values())):
        cells = (
            f"{costs[case][row]:12.2f}{limits[case].get(row, float('inf')):10g}" for case in limits
        )
        yield f"{row:24}" + "".join(cells)
