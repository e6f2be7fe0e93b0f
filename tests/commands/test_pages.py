"""What commands read page by page, while runs change or where there is no end of them."""

from __future__ import annotations

from typing import Any, cast

import pytest

from pyoco_cli.client.listing import every_run
from pyoco_cli.client.run_ids import whole_id
from pyoco_cli.common.errors import CliError
from pyoco_server.client import PyocoHttpClient


class _Changing:
    """A gateway of two runs a page, the newest change first, on which one run changes after each page."""

    def __init__(self, count: int, changes: list[int]) -> None:
        self.updated = {f"r{number}": float(number) for number in range(count)}
        self._changes = changes

    def find_runs(self, *, updated_after: float, cursor: str | None, **_: object) -> dict[str, Any]:
        before = float(cursor) if cursor else float("inf")
        found = sorted(
            ((at, run_id) for run_id, at in self.updated.items() if updated_after <= at < before),
            reverse=True,
        )
        page = found[:2]
        if self._changes:
            self.updated[f"r{self._changes.pop(0)}"] = max(self.updated.values()) + 1
        return {
            "items": [{"run_id": run_id, "updated_at": at} for at, run_id in page],
            "next_cursor": str(page[-1][0]) if len(found) > 2 else None,
        }


@pytest.mark.parametrize("changes", [[], [0], [3], [0, 1, 2], [0, 5, 1, 4, 2, 3]])
def test_a_run_that_changes_between_two_pages_is_listed(changes: list[int]) -> None:
    client = cast(PyocoHttpClient, _Changing(6, changes))
    listed = [run["run_id"] for run in every_run(client, {})]
    assert sorted(listed) == [f"r{number}" for number in range(6)]


class _Many:
    """A gateway with any number of runs that have a text in them."""

    def __init__(self, *run_ids: str) -> None:
        self._run_ids = run_ids
        self.calls = 0

    def find_runs(self, **_: object) -> dict[str, Any]:
        self.calls += 1
        items = [{"run_id": each, "status": "PENDING", "flow_name": "ma"} for each in self._run_ids]
        return {"items": items, "next_cursor": "more"}


def test_what_is_no_beginning_of_an_id_is_looked_for_in_a_few_pages_only() -> None:
    many = _Many("b1", "c2")
    assert whole_id(cast(PyocoHttpClient, many), "ma") == "ma"
    assert many.calls <= 10


def test_the_only_candidate_of_the_first_pages_is_not_taken_for_the_only_one() -> None:
    with pytest.raises(CliError, match=r"run id ma is ambiguous: mab1 PENDING ma.*, …"):
        whole_id(cast(PyocoHttpClient, _Many("mab1", "c2")), "ma")
