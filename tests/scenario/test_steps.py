"""Steps that cannot be done: the scenario has failed, and says why."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any, cast

import pytest

from pyoco_server.scenario.clients import Clients
from pyoco_server.scenario.document import ScenarioError, parse_scenario
from pyoco_server.scenario.history import History
from pyoco_server.scenario.play import Play
from pyoco_server.scenario.stage import Gateway, Stage
from pyoco_server.scenario.troubles import Troubles


def play(tmp_path: Path) -> Play:
    stage = Stage(tmp_path, cast("Any", None))
    stage.programs = dict.fromkeys(["n1", "g1"], cast("Any", None))
    stage.gateways = [Gateway("g1", "http://127.0.0.1:1", ours=True)]
    return Play(
        parse_scenario("name: x\nabout: y\nsteps: []\n"),
        stage,
        cast("Any", None),
        History(),
        speed=1.0,
        twin=None,
        long=False,
        tell=lambda _: None,
    )


@pytest.mark.parametrize("names", ["nats", "n1", "leader", ["n1"]])
async def test_what_has_no_link_cannot_be_cut(tmp_path: Path, names: str | list[str]) -> None:
    with pytest.raises(ScenarioError, match="has no link, only gateways and workers have"):
        await Troubles(play(tmp_path)).cut(names, Random(1))


async def test_a_gateway_that_is_not_in_the_cast_is_named(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match="no gateway is called g9, but g1"):
        Clients(play(tmp_path)).gateway("g9")
