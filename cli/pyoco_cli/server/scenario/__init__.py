"""`pyoco-server scenario …`: play scenarios against real processes."""

from __future__ import annotations

import typer

from pyoco_cli.common.commands import on_demand

app = typer.Typer(
    help="Play, check and record scenarios.",
    cls=on_demand(
        {
            "run": "pyoco_cli.server.scenario.run:run",
            "record": "pyoco_cli.server.scenario.record:record",
            "list": "pyoco_cli.server.scenario.look:list_scenarios",
            "check": "pyoco_cli.server.scenario.look:check",
            "schema": "pyoco_cli.server.scenario.look:schema",
        }
    ),
    rich_markup_mode=None,
)
