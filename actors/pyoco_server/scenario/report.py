"""The report of a performance: JSON for programs, one page of HTML for people."""

from __future__ import annotations

from html import escape
from typing import Any, Final

import msgspec

from pyoco_server.scenario.history import History
from pyoco_server.scenario.performance import Verdict

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


def as_json(verdict: Verdict) -> bytes:
    """The report for programs."""
    return msgspec.json.format(
        msgspec.json.encode(
            {
                "scenario": verdict.scenario,
                "seed": verdict.seed,
                "passed": verdict.passed,
                "unmet": verdict.unmet,
                "figures": verdict.figures,
                "transcript": verdict.transcript,
                "troubles": verdict.history.troubles,
                "runs": [_run(verdict.history, run_id) for run_id in verdict.history.accepted],
            }
        )
    )


def as_html(verdict: Verdict) -> str:
    """The report for people: verdict, figures, a picture of the time line, the transcript."""
    word = "passed" if verdict.passed else "failed"
    kind = "good" if verdict.passed else "bad"
    unmet = "".join(f"<li>{escape(text)}</li>" for text in verdict.unmet)
    rows = "".join(
        f"<tr><td>{escape(name)}</td><td>{value:g}</td></tr>"
        for name, value in verdict.figures.items()
    )
    lines = "\n".join(escape(f"{line.at:8.2f}  {line.text}") for line in verdict.transcript)
    return (
        f"<!doctype html><html lang='en'><meta charset='utf-8'><title>{escape(verdict.scenario)}"
        f"</title><style>{_STYLE}</style><h1>{escape(verdict.scenario)}: "
        f"<span class='{kind}'>{word}</span></h1><p>seed {verdict.seed}</p><ul class='bad'>{unmet}</ul>"
        f"<h2>Figures</h2><table>{rows}</table><h2>Time line</h2>{_picture(verdict.history)}"
        f"<h2>Transcript</h2><pre>{lines}</pre></html>\n"
    )


def _run(history: History, run_id: str) -> dict[str, Any]:
    accepted = history.accepted[run_id]
    revisions = [
        {"at": each.at, "status": each.snapshot.status, "attempt": each.snapshot.attempt}
        for each in history.revisions.get(run_id, ())
        if each.snapshot is not None
    ]
    return {
        "run_id": run_id,
        "group": accepted.group,
        "accepted_at": accepted.at,
        "states": revisions,
    }


def _picture(history: History) -> str:
    """A lane for each run, coloured by its state, and a line for each trouble."""
    runs = list(history.accepted)[:_MOST_LANES]
    moments = [each.at for run_id in runs for each in history.revisions.get(run_id, ())]
    end = max([*moments, *(trouble.at for trouble in history.troubles), 1.0])
    scale = _WIDTH / end
    shapes = []
    for lane, run_id in enumerate(runs):
        steps = [each for each in history.revisions.get(run_id, ()) if each.snapshot is not None]
        for number, step in enumerate(steps):
            assert step.snapshot is not None
            terminal = step.snapshot.status.terminal
            until = steps[number + 1].at if number + 1 < len(steps) else step.at
            width = max((until - step.at) * scale, 4 if terminal else 1)
            colour = _COLOURS[step.snapshot.status]
            shapes.append(
                f"<rect x='{step.at * scale:.1f}' y='{lane * _LANE + 16}' width='{width:.1f}' "
                f"height='{_LANE - 3}' fill='{colour}'><title>{escape(run_id)} "
                f"{step.snapshot.status} attempt {step.snapshot.attempt}</title></rect>"
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
