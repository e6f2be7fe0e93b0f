"""What a scenario expects of schedules, and what of them it does not take for a fault."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from pyoco_server.scenario import expectations
from pyoco_server.scenario.document import parse_scenario
from pyoco_server.scenario.expectations import check
from pyoco_server.scenario.history import History
from pyoco_server.scenario.play import Play
from pyoco_server.scenario.steps import Expect


@pytest.mark.parametrize(
    ("changes", "ticks", "unmet"),
    [
        ([], [10, 11, 12], []),
        ([], [10, 12], ["schedule s: no run of the ticks between 10 and 12"]),
        ([], [10, 11, 11], ["schedule s: 2 runs of the tick at 11"]),
        ([("pause", 11.5), ("resume", 14.5)], [10, 11, 15], []),
        ([("pause", 11.5), ("update", 12.0), ("resume", 14.5)], [10, 11, 15], []),
        (
            [("pause", 11.5), ("resume", 13.5)],
            [10, 11, 15],
            ["schedule s: no run of the ticks between 11 and 15"],
        ),
        (
            [("pause", 12.0), ("resume", 14.5)],
            [10, 11, 15],
            ["schedule s: no run of the ticks between 11 and 15"],
        ),
    ],
    ids=[
        "all there",
        "one left out",
        "one twice",
        "a pause",
        "a change in a pause",
        "one left out after a pause",
        "one left out before a pause",
    ],
)
async def test_only_ticks_of_a_pause_may_have_no_run(
    monkeypatch: pytest.MonkeyPatch,
    changes: list[tuple[str, float]],
    ticks: list[float],
    unmet: list[str],
) -> None:
    answers: dict[str, Any] = {
        "/schedules/s": {
            "every_sec": 1,
            "changes": [{"action": what, "changed_at": at} for what, at in changes],
        },
        "/runs": {"items": [{"status": "COMPLETED", "scheduled_at": float(at)} for at in ticks]},
    }

    async def ask(stage: Any, path: str, query: dict[str, str]) -> Any:
        del stage, query
        return answers[path]

    monkeypatch.setattr(expectations, "_ask", ask)
    found = await check(Expect(ticks={"s": 2}, within=0.0), empty_play())
    assert found == unmet


async def test_lists_are_looked_at_to_their_end(monkeypatch: pytest.MonkeyPatch) -> None:
    lists: dict[str, list[dict[str, Any]]] = {
        "/dlq": [{"reason": "failed"}] * 250,
        "/runs": [{"status": "COMPLETED", "scheduled_at": float(at)} for at in range(1, 251)],
    }

    async def ask(stage: Any, path: str, query: dict[str, str]) -> Any:
        del stage
        if path not in lists:
            return {"changes": []}
        end = int(query.get("cursor", "0")) + int(query["limit"])
        items = lists[path][end - int(query["limit"]) : end]
        return {"items": items, "next_cursor": str(end) if end < len(lists[path]) else None}

    monkeypatch.setattr(expectations, "_ask", ask)
    expect = Expect(letters={"failed": 250}, ticks={"s": 250}, within=0.0)
    assert await check(expect, empty_play()) == []


def empty_play() -> Play:
    """A play of which nothing has happened yet."""
    return Play(
        parse_scenario("name: x\nabout: y\nsteps: []\n"),
        cast("Any", None),
        cast("Any", SimpleNamespace()),
        History(),
        speed=1.0,
        twin=None,
        long=False,
        tell=lambda _: None,
    )
