"""`pyoco-server scenario run`: play scenarios and tell how they went."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Annotated

import trio
import typer
from rich.console import Console
from rich.text import Text

from pyoco_cli.common.errors import CliError, leaves
from pyoco_cli.common.parameters import write_text
from pyoco_cli.configuration import load_settings
from pyoco_cli.server.scenario.look import read
from pyoco_cli.signals import stop_signals
from pyoco_server.logs import configure_logging
from pyoco_server.model.errors import ErrorId
from pyoco_server.scenario.document import Scenario, ScenarioError, Twin
from pyoco_server.scenario.performance import ScenarioResult, perform, twin_of
from pyoco_server.scenario.play import TranscriptLine
from pyoco_server.scenario.report import as_html, as_json
from pyoco_server.scenario.versions import cache_folder


def run(
    files: Annotated[list[Path], typer.Argument(help="Scenario files.")],
    seed: Annotated[int | None, typer.Option(help="What chance is drawn from.")] = None,
    speed: Annotated[float, typer.Option(min=0.01, help="How many times faster waits pass.")] = 1.0,
    twin: Annotated[
        bool, typer.Option("--twin", help="Break it as its twin says; it then has to fail.")
    ] = False,
    long: Annotated[
        bool,
        typer.Option("--long", help="Play what takes minutes: all scenarios, and in full length."),
    ] = False,
    keep: Annotated[
        Path | None,
        typer.Option(
            help="Keep what the casts wrote there, each in a folder of its scenario's name."
        ),
    ] = None,
    report: Annotated[
        Path | None, typer.Option(help="Write a report of all of them: a .html or a .json file.")
    ] = None,
) -> None:
    """Play scenarios with real processes; exit code 0 only if every expectation held.

    With --twin a scenario passes if it fails as its twin says.
    """
    if report is not None and report.suffix not in {".html", ".json"}:
        raise CliError(f"--report {report}: a .html or a .json file")
    settings = load_settings({"PYOCO_LOG_LEVEL": "error", "PYOCO_LOG_FORMAT": "text"})
    configure_logging(service="pyoco-server:scenario", settings=settings)
    console = Console(highlight=False)
    failed = 0
    verdicts: list[ScenarioResult] = []
    for path in files:
        scenario = read(path)
        if scenario.long and not long:
            console.print(f"{scenario.name}: takes minutes, played with --long only")
            continue
        broken = twin_of(scenario, path.parent) if twin else None
        if twin and broken is None:
            console.print(f"{scenario.name}: has no twin")
            continue
        code, verdict = trio.run(_perform, scenario, broken, keep, seed, speed, long, console)
        if verdict is None:
            raise typer.Exit(code)
        right = _tell(console, verdict, broken)
        failed += not right
        if report is not None:
            # After each, so that an interrupt leaves what there is.
            verdicts.append(verdict)
            text = as_html(verdicts) if report.suffix == ".html" else as_json(verdicts).decode()
            write_text(report, text, "--report")
    raise typer.Exit(1 if failed else 0)


async def _perform(
    scenario: Scenario,
    twin: Twin | None,
    keep: Path | None,
    seed: int | None,
    speed: float,
    long: bool,
    console: Console,
) -> tuple[int, ScenarioResult | None]:
    """Play one; (exit code, None) when it was interrupted."""
    if keep is None:
        folder = Path(tempfile.mkdtemp(prefix="pyoco-scenario-"))
    else:
        folder = keep / scenario.name
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            # What a NATS server stored there would be part of what is played.
            raise CliError(f"{folder} is not empty", hint="--keep another folder")
    verdict: ScenarioResult | None = None
    console.print(Text(f"{scenario.name}: {scenario.about}", "bold"))

    def say(line: TranscriptLine) -> None:
        console.print(Text(f"{line.at:8.2f}  {line.text}", "red" if line.failed else ""))

    try:
        async with stop_signals() as stop, stop.nursery():
            verdict = await perform(
                scenario,
                folder,
                cache=cache_folder(),
                seed=seed,
                speed=speed,
                long=long,
                twin=twin,
                say=say,
            )
    except* ScenarioError as group:
        why = str(next(leaves(group)))
        raise CliError(why, hint=f"its files: {folder}", error_id=ErrorId.INVALID_INPUT) from None
    if _is_wrong(verdict, twin):
        console.print(f"what the cast wrote is in {folder}")
    elif keep is None:
        shutil.rmtree(folder, ignore_errors=True)
    return stop.exit_code, verdict


def _is_wrong(verdict: ScenarioResult | None, twin: Twin | None) -> bool:
    """Whether it should have gone otherwise; one that was interrupted should not."""
    if verdict is None:
        return False
    return not (verdict.passed if twin is None else twin.noticed(verdict.unmet))


def _tell(console: Console, verdict: ScenarioResult, twin: Twin | None) -> bool:
    """Print the verdict; return whether it is the right one."""
    shown = {name: round(value, 3) for name, value in verdict.figures.items()}
    console.print("  ".join(f"{name} {value:g}" for name, value in shown.items()))
    right = not _is_wrong(verdict, twin)
    if twin is None:
        text = "passed" if right else f"FAILED, seed {verdict.seed}"
    else:
        text = "broken, and failed as it must" if right else "BROKEN, AND NOBODY NOTICED"
    console.print(Text(f"{verdict.scenario}: {text}\n", "bold green" if right else "bold red"))
    return right
