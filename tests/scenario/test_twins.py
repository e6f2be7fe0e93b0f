"""A broken scenario waits for what must fail as its twin says, and for everything else its full time."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
import trio
from trio.testing import MockClock

from pyoco_server.scenario.document import Twin, parse_scenario
from pyoco_server.scenario.expectations import check
from pyoco_server.scenario.history import History
from pyoco_server.scenario.play import Play
from pyoco_server.scenario.steps import Expect


@pytest.mark.parametrize(
    ("twin", "seconds"),
    [
        (None, 30),
        (Twin(version="0.5.1", fails="1 runs expected", within=5), 5),
        (Twin(version="0.5.1", fails="something else", within=5), 30),
        (Twin(version="0.5.1", fails="1 runs expected", within=60), 30),
    ],
    ids=["not broken", "what must fail", "something else fails", "the shorter one"],
)
async def test_how_long_is_waited_for_what_does_not_come(
    twin: Twin | None, seconds: float, autojump_clock: MockClock
) -> None:
    play = Play(
        parse_scenario("name: x\nabout: y\nsteps: []\n"),
        cast("Any", None),
        cast("Any", SimpleNamespace(changed=trio.sleep_forever)),
        History(),
        speed=1.0,
        twin=twin,
        long=False,
        tell=lambda _: None,
    )
    unmet = await check(Expect(runs=1, within=30), play)
    assert unmet == ["all runs: 1 runs expected, there are 0"]
    assert play.now == pytest.approx(seconds, abs=0.5)
