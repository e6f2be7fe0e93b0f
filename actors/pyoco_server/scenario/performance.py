"""One performance of a scenario, from the rising of the curtain to the verdict."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import trio
from msgspec.structs import replace

from pyoco_server.scenario.document import Scenario, ScenarioError, Twin
from pyoco_server.scenario.figures import figures
from pyoco_server.scenario.history import History
from pyoco_server.scenario.judge import judge
from pyoco_server.scenario.observer import Observer
from pyoco_server.scenario.patches import check_patch
from pyoco_server.scenario.play import Play, TranscriptLine
from pyoco_server.scenario.player import Player
from pyoco_server.scenario.stage import Stage, open_stage


@dataclass
class ScenarioResult:
    """How a scenario went.

    Attributes:
        scenario: Its name.
        seed: What chance was drawn from.
        transcript: What happened, line by line.
        unmet: What was not as expected; empty when all was.
        figures: What was counted and measured.
        history: Everything that was seen.
    """

    scenario: str
    seed: int
    transcript: list[TranscriptLine] = field(default_factory=list)
    unmet: list[str] = field(default_factory=list)
    figures: dict[str, float] = field(default_factory=dict)
    history: History = field(default_factory=History)

    @property
    def passed(self) -> bool:
        """Whether everything was as expected."""
        return not self.unmet


async def perform(
    scenario: Scenario,
    folder: Path,
    *,
    cache: Path,
    seed: int | None = None,
    speed: float = 1.0,
    long: bool = False,
    twin: Twin | None = None,
    say: Callable[[TranscriptLine], None] = lambda _: None,
    at_end: Callable[[Stage], Awaitable[None]] | None = None,
) -> ScenarioResult:
    """Play a scenario once.

    Cancelled, everything that it started is ended first, within a minute.

    Args:
        scenario: What to play.
        folder: An empty folder for all that the cast writes.
        cache: Where other versions of pyoco-server are installed.
        seed: Instead of the scenario's own.
        speed: How many times faster waits and rates pass.
        long: Whether what can be short takes its minutes.
        twin: What to break; the scenario's own flaw, to see that it fails.
        say: Told each line of the transcript.
        at_end: Called when everything is played, with everybody still on the stage.

    Raises:
        ScenarioError: It could not be played at all.
    """
    seed = scenario.seed if seed is None else seed
    verdict = ScenarioResult(scenario.name, seed)

    def note(line: TranscriptLine) -> None:
        verdict.transcript.append(line)
        say(line)

    try:
        async with (
            open_stage(scenario, folder, cache, twin) as stage,
            trio.open_nursery() as nursery,
        ):
            observer = Observer(stage.observer, verdict.history, stage.journal)
            await nursery.start(observer.run)
            play = Play(
                scenario,
                stage,
                observer,
                verdict.history,
                speed=speed,
                twin=twin,
                long=long,
                tell=note,
            )
            player = Player(play, seed)
            try:
                await player.play()
            except* ScenarioError as group:  # a step that could not be done is one that failed
                error = _first(group)
                play.say(str(error), failed=True)
                player.unmet.append(str(error))
            if at_end is not None:
                await at_end(stage)
            observer.read_journal()
            seconds = play.now
            verdict.history.left_processes += await stage.leave()
            verdict.figures = figures(verdict.history, seconds)
            nursery.cancel_scope.cancel()
    except* ScenarioError as group:
        raise _first(group) from None
    check_patch(folder)
    verdict.unmet = [*player.unmet, *map(str, judge(verdict.history, ["I4"]))]
    return verdict


def _first(group: BaseExceptionGroup[ScenarioError]) -> ScenarioError:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, ScenarioError)
    return error


def twin_of(scenario: Scenario, folder: Path) -> Twin | None:
    """What breaks the scenario, with the path of its patch found from the scenario's folder."""
    twin = scenario.twin
    if twin is None or twin.patch is None:
        return twin
    return replace(twin, patch=str(folder / twin.patch))
