"""The report of performances: JSON for programs, one page of HTML for people."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from itertools import pairwise
from typing import Any, Final

import msgspec

from pyoco_server.scenario.history import History
from pyoco_server.scenario.performance import ScenarioResult

_WIDTH: Final = 1000
_LANE: Final = 10
_MOST_LANES: Final = 300
_COLOURS: Final = {
    "PENDING": "#9aa4ae",
    "RUNNING": "#3b82f6",
    "CANCELLING": "#d97706",
    "COMPLETED": "#16a34a",
    "FAILED": "#dc2626",
    "CANCELLED": "#a16207",
}
_STYLE: Final = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 66rem; padding: 0 1rem; }
table { border-collapse: collapse; } td, th { padding: .15rem .9rem .15rem 0; text-align: left; }
pre { background: #f1f3f5; padding: .8rem; overflow: auto; }
.bad { color: #b3261e; } .good { color: #15693a; }
svg { width: 100%; background: #f8f9fa; }
"""


def as_json(verdicts: Sequence[ScenarioResult]) -> bytes:
    """The report for programs: an object for each scenario."""
    return msgspec.json.format(msgspec.json.encode([_object(verdict) for verdict in verdicts]))


def as_html(verdicts: Sequence[ScenarioResult]) -> str:
    """The report for people: what came of each scenario, and then each in full."""
    names = escape(", ".join(verdict.scenario for verdict in verdicts))
    links = "".join(
        f"<li><a href='#{escape(verdict.scenario)}'>{escape(verdict.scenario)}</a>: "
        f"{_word(verdict)}</li>"
        for verdict in verdicts
    )
    contents = f"<ul>{links}</ul>" if len(verdicts) > 1 else ""
    sections = "".join(map(_section, verdicts))
    return (
        f"<!doctype html><html lang='en'><meta charset='utf-8'><title>{names}</title>"
        f"<style>{_STYLE}</style>{contents}{sections}</html>\n"
    )


def _object(verdict: ScenarioResult) -> dict[str, Any]:
    return {
        "scenario": verdict.scenario,
        "seed": verdict.seed,
        "passed": verdict.passed,
        "unmet": verdict.unmet,
        "figures": verdict.figures,
        "transcript": verdict.transcript,
        "troubles": verdict.history.troubles,
        "runs": [_run(verdict.history, run_id) for run_id in verdict.history.accepted],
    }


def _section(verdict: ScenarioResult) -> str:
    """Verdict, figures, a picture of the time line, the transcript."""
    name = escape(verdict.scenario)
    unmet = "".join(f"<li>{escape(text)}</li>" for text in verdict.unmet)
    rows = "".join(
        f"<tr><td>{escape(figure)}</td><td>{value:g}</td></tr>"
        for figure, value in verdict.figures.items()
    )
    lines = "\n".join(escape(f"{line.at:8.2f}  {line.text}") for line in verdict.transcript)
    return (
        f"<section id='{name}'><h1>{name}: {_word(verdict)}</h1>"
        f"<p>seed {verdict.seed}</p><ul class='bad'>{unmet}</ul>"
        f"<h2>Figures</h2><table>{rows}</table><h2>Time line</h2>{_picture(verdict.history)}"
        f"<h2>Transcript</h2><pre>{lines}</pre></section>"
    )


def _word(verdict: ScenarioResult) -> str:
    kind, word = ("good", "passed") if verdict.passed else ("bad", "failed")
    return f"<span class='{kind}'>{word}</span>"


def _run(history: History, run_id: str) -> dict[str, Any]:
    accepted = history.accepted[run_id]
    states = [
        {"at": at, "status": snapshot.status, "attempt": snapshot.attempt}
        for at, snapshot in history.snapshots(run_id)
    ]
    return {
        "run_id": run_id,
        "group": accepted.group,
        "accepted_at": accepted.at,
        "states": states,
    }


def _picture(history: History) -> str:
    """A lane for each run, coloured by its state, and a line for each trouble."""
    runs = list(history.accepted)[:_MOST_LANES]
    moments = [each.at for run_id in runs for each in history.revisions.get(run_id, ())]
    end = max([*moments, *(trouble.at for trouble in history.troubles), 1.0])
    scale = _WIDTH / end
    shapes = []
    for lane, run_id in enumerate(runs):
        states = history.snapshots(run_id)
        for (at, snapshot), (until, _) in pairwise([*states, *states[-1:]]):
            width = max((until - at) * scale, 4 if snapshot.status.terminal else 1)
            shapes.append(
                f"<rect x='{at * scale:.1f}' y='{lane * _LANE + 16}' width='{width:.1f}' "
                f"height='{_LANE - 3}' fill='{_COLOURS[snapshot.status]}'><title>{escape(run_id)} "
                f"{snapshot.status} attempt {snapshot.attempt}</title></rect>"
            )
    height = len(runs) * _LANE + 24
    for trouble in history.troubles:
        x = f"{trouble.at * scale:.1f}"
        shapes.append(
            f"<line x1='{x}' x2='{x}' y1='12' y2='{height}' stroke='#b3261e' stroke-dasharray='3 3'>"
            f"<title>{escape(trouble.what)} {escape(trouble.target)}</title></line>"
            f"<text x='{x}' y='10' font-size='9'>{escape(trouble.what)}</text>"
        )
    return f"<svg viewBox='0 0 {_WIDTH} {height}'>{''.join(shapes)}</svg>"
