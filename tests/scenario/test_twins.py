"""A broken scenario waits for what must fail as its twin says, and for everything else its full time."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import httpx
import pytest
import trio
from trio.testing import MockClock

from pyoco_server.scenario.clients import Clients
from pyoco_server.scenario.document import ScenarioError, Twin, parse_scenario
from pyoco_server.scenario.expectations import check
from pyoco_server.scenario.history import History
from pyoco_server.scenario.play import Play
from pyoco_server.scenario.steps import Expect, Submit


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
    play = played(twin)
    unmet = await check(Expect(runs=1, within=30), play)
    assert unmet == ["all runs: 1 runs expected, there are 0"]
    assert play.now == pytest.approx(seconds, abs=0.5)


@pytest.mark.parametrize(
    ("twin", "seconds"),
    [
        (None, 60),
        (Twin(version="0.5.1", fails=["not ready", "not accepted"], within=5), 5),
        (Twin(version="0.5.1", fails="I1", within=5), 60),
    ],
    ids=["not broken", "what must fail", "something else fails"],
)
async def test_how_long_a_submission_is_tried_that_nobody_accepts(
    twin: Twin | None, seconds: float, autojump_clock: MockClock
) -> None:
    """A machine so slow that a submission waits must not look like what a twin breaks elsewhere."""
    play = played(twin)
    clients = Clients(play)
    clients.http = httpx.AsyncClient(transport=httpx.MockTransport(refuse))
    step = Submit(flow="quick", tag="hello", keyed=True)
    with pytest.raises(ScenarioError, match=f"submit: not accepted within {seconds} s"):
        await clients.accepted(step, "quick", "flow: {}\n")
    assert play.now == pytest.approx(seconds, abs=0.5)


def refuse(request: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("refused", request=request)


def played(twin: Twin | None) -> Play:
    """A play on a stage with a gateway that is away."""
    gateway = SimpleNamespace(name="g1", url="http://g1")
    stage = SimpleNamespace(gateways=[gateway], programs={"g1": SimpleNamespace(running=False)})
    return Play(
        parse_scenario("name: x\nabout: y\nsteps: []\n"),
        cast("Any", stage),
        cast("Any", SimpleNamespace(changed=trio.sleep_forever)),
        History(),
        speed=1.0,
        twin=twin,
        long=False,
        tell=lambda _: None,
    )
