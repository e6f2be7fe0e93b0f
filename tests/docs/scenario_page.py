"""The page about the scenario file, made of the docstrings of its parts."""

from __future__ import annotations

import inspect
import re

from pyoco_server.scenario import document, recording, steps

_HEAD = """\
# The scenario file

A YAML file that `pyoco-server scenario run` plays; how to work with them is in the
[guide](../guides/scenarios.md). `pyoco-server scenario schema` prints the JSON schema, which is also in
`scenarios/scenario.schema.json`. Editors use it after a first line such as

```yaml
# yaml-language-server: $schema=scenario.schema.json
```

An unknown key is an error. Times are seconds.
"""
_STEPS = """\
Processes are named `n1`… (NATS), `g1`… (gateways) and by the ids of the workers; `nats`, `gateways` and
`workers` are all of a kind, `leader` is the node that leads the queue. Steps follow each other; a step that
cannot be done, and an expectation that is not met, end the scenario as failed.
"""
_EXPECT = """\
| Invariant | Holds when |
|---|---|
| `I1` | every accepted run ends, and none goes away before |
| `I2` | a terminal state never changes, and nothing of the run is executed after it |
| `I3` | no older attempt writes, one worker holds an attempt, and it is executed once |
| `I4` | no process outlives its owner; judged at the end of every scenario |
| `I5` | calls are answered within 15 s, and never with 500 |
| `I6` | after a trouble a new run ends within 30 s; expecting it submits one |
| `I7` | an acknowledged cancel ends CANCELLED, or its answer says how the run had ended |
| `once` | a submission is one run at most, and a refused one is none |

Figures: `seconds`, `runs`, `runs_per_second`, `attempts`, `executions`, `executions_cut_off`,
`submits_refused` (with 503), `completed`, `failed`, `cancelled`, `cancels` (that were answered), `violations`
(of any invariant), `kills`, `kills_worker` and the like for each step that troubles something and each
`worker`, `child`, `gateway` and `nats`, `recovery_p50`, `recovery_p99`, `queue_p50`, `queue_p99`,
`submit_p50`, `submit_p99`.
"""
_PARTS: tuple[tuple[str, type, str], ...] = (
    ("The file", document.Scenario, ""),
    ("`cast`", document.Cast, ""),
    ("`cast.workers`", document.WorkerPart, ""),
    ("Steps", steps.Step, _STEPS),
    ("`submit`", steps.Submit, ""),
    ("`cancel`", steps.Cancel, ""),
    ("`reschedule`", steps.Reschedule, ""),
    ("`schedule`", steps.SetSchedule, ""),
    ("`order_schedule`", steps.OrderSchedule, ""),
    ("`publish`", steps.Publish, ""),
    ("`upload`, `delete`", steps.Wheel, ""),
    ("`delay`", steps.Delay, ""),
    ("`expect`", steps.Expect, _EXPECT),
    ("`expect.figures`", steps.Bound, ""),
    ("`repeat`", steps.Repeat, ""),
    ("`replay`", recording.Recording, ""),
    ("`replay.runs`", recording.RecordedRun, ""),
    ("`replay.runs.states`", recording.RecordedState, ""),
    ("`replay.workers`", recording.RecordedWorker, ""),
    ("`twin`", document.Twin, ""),
)


def scenario_page() -> str:
    """The text of the page."""
    sections = [_HEAD]
    for title, part, more in _PARTS:
        about, _, attributes = (inspect.getdoc(part) or "").partition("Attributes:")
        rows = re.sub(r"\n\s{8,}", " ", attributes).strip().splitlines()
        table = ["| Key | Meaning |", "|---|---|"]
        for row in rows:
            key, _, meaning = row.strip().partition(": ")
            table.append(f"| `{key}` | {meaning.replace('``', '`')} |")
        sections.append(f"## {title}\n\n{about.strip()}\n\n" + "\n".join(table) + "\n")
        if more:
            sections.append(more)
    return "\n".join(sections)
