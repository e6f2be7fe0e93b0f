"""`pyoco-server scenario …`: play scenarios against real processes."""

from __future__ import annotations

import typer

from pyoco_cli.server.scenario.look import check, list_scenarios, schema
from pyoco_cli.server.scenario.record import record
from pyoco_cli.server.scenario.run import run

app = typer.Typer(help="Play, check and record scenarios.", rich_markup_mode=None)
app.command("run")(run)
app.command("record")(record)
app.command("list")(list_scenarios)
app.command("check")(check)
app.command("schema")(schema)
