"""How schedules look on a terminal."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from pyoco_cli.client.drawing import Fitted, facts, table, text, with_cursor
from pyoco_cli.client.words import age, moment
from pyoco_cli.common.output import printable
from pyoco_server.model.counted import counted
from pyoco_server.model.schedules.ticks import NotATiming, local_time

_STYLES = {"active": "green", "paused": "yellow", "ended": "dim"}
_OUTCOMES = {"run": "green", "skipped": "yellow", "missed": "yellow", "refused": "red"}
_SIGNS = {
    "create": ("+", "green"),
    "update": ("~", "yellow"),
    "delete": ("-", "red"),
    "keep": ("=", "dim"),
}
_text = partial(text, longest=sys.maxsize)


def schedules_page(page: dict[str, Any]) -> RenderableType:
    """Schedules, one a line, and where the next page starts."""
    if not page["items"]:
        return Text("(no schedules)", "dim")
    items = page["items"]
    columns = {
        "schedule": [_text(item["schedule_id"]) for item in items],
        "state": [Text(item["state"], _STYLES.get(item["state"], "")) for item in items],
        "when": [_text(when(item)) for item in items],
        "flow": [_text(item["flow_name"]) for item in items],
        "next": [_text(item.get("problem") or _next(item)) for item in items],
        "last": [_last(item.get("last_tick")) for item in items],
    }
    return with_cursor(Fitted(columns, last=("next", "when", "flow"), rest="last"), page)


def schedule_line(found: dict[str, Any]) -> RenderableType:
    """A schedule in a line."""
    return schedules_page({"items": [found]})


def whole(
    found: dict[str, Any], ticks: Sequence[Mapping[str, Any]], past: Sequence[Mapping[str, Any]]
) -> RenderableType:
    """A schedule, its next ticks, its last ones, and who has changed it."""
    told = facts(
        ("schedule", found["schedule_id"]),
        ("name", found["name"]),
        ("state", found["state"]),
        ("problem", found.get("problem")),
        ("when", when(found)),
        ("time zone", found["timezone"]),
        ("flow", found["flow_name"]),
        ("tag", found["tag"]),
        ("params", json.dumps(found["params"], ensure_ascii=False) if found["params"] else None),
        ("overlap", found["overlap"]),
        ("catch-up", found["catch_up"]),
        ("labels", ", ".join(f"{name}={text}" for name, text in found["labels"].items())),
        ("ticks so far", ", ".join(f"{n} {what}" for what, n in found["counts"].items())),
        longest=sys.maxsize,
    )
    changes = list(reversed(found["changes"][-5:]))
    columns = {
        "changed": [Text(moment(change["changed_at"])) for change in changes],
        "by": [_text(change.get("changed_by")) for change in changes],
        "what": [
            _text(f"{change['action']} {', '.join(change.get('fields', ()))}".strip())
            for change in changes
        ],
    }
    coming, gone = ticks_to_come({"ticks": ticks}), past_ticks({"items": past[:5]})
    return Group(told, Text(), coming, Text(), gone, Text(), table(columns, no_wrap=True))


def ticks_to_come(found: dict[str, Any]) -> RenderableType:
    """Ticks to come, one a line."""
    if not found["ticks"]:
        problem = found.get("problem")
        return _text(problem) if problem else Text("never due (any more)", "yellow")
    later = [tick["due_at"] - tick["tick_at"] for tick in found["ticks"]]
    columns = {
        "next": [_text(tick["local"]) for tick in found["ticks"]],
        "due": [Text(f"{by:.1f} s later" if by else "", "dim") for by in later],
    }
    return table(columns, no_wrap=True)


def past_ticks(found: dict[str, Any]) -> RenderableType:
    """What became of ticks, one a line."""
    if not found["items"]:
        return Text("(no ticks yet)", "dim")
    ticks = found["items"]
    columns = {
        "tick": [_text(tick["local"]) for tick in ticks],
        "outcome": [_outcome(tick) for tick in ticks],
        "run": [_text(tick.get("run_id")) for tick in ticks],
        "status": [_text(tick.get("status")) for tick in ticks],
        "why": [
            _text("triggered" if tick.get("triggered") else tick.get("reason") or "")
            for tick in ticks
        ],
    }
    return Fitted(columns, last=("run",), spare=("status",), rest="why")


def _outcome(tick: Mapping[str, Any]) -> Text:
    count = f" ({tick['count']})" if tick.get("count", 1) > 1 else ""
    return Text(tick["outcome"] + count, _OUTCOMES.get(tick["outcome"], ""))


def backfilled(found: dict[str, Any]) -> RenderableType:
    """What a backfill does, one tick a line, and why some have failed."""
    if not found["items"]:
        return Text("(no ticks in that time)", "dim")
    names = {"tick": "local", "outcome": "outcome", "run": "run_id"}
    columns = {head: [_text(item[name]) for item in found["items"]] for head, name in names.items()}
    more = [
        Text(printable(f"{item['local']}: {item['reason']}"), "red")
        for item in found["items"]
        if item["reason"]
    ]
    if found["more"]:
        more.append(Text("there are more: raise --limit, or go on from the last one", "yellow"))
    return Group(table(columns, no_wrap=True), *more)


def applied(found: dict[str, Any]) -> RenderableType:
    """What was, or would be, changed, as a diff."""
    lines: list[Text] = []
    for item in found["items"]:
        sign, style = _SIGNS[item["action"]]
        coming = f"  next: {', '.join(item['next'])}" if item["next"] else ""
        quiet = item["action"] == "keep"
        lines.append(
            Text(printable(f"{sign} {item['schedule_id']}{'' if quiet else coming}"), style)
        )
        lines += [
            Text(printable(f"    {name}: {_short(change['from'])} → {_short(change['to'])}"), style)
            for name, change in item["changes"].items()
        ]
    if found["dry_run"]:
        lines.append(Text("nothing was changed (--dry-run)", "dim"))
    return Group(*lines) if lines else Text("(no schedules)", "dim")


def when(item: Mapping[str, Any]) -> str:
    """What says when a schedule is due."""
    if item.get("cron"):
        return str(item["cron"])
    if item.get("every_sec"):
        return f"every {item['every_sec']} s"
    if item.get("rrule"):
        return str(item["rrule"])
    moments: Sequence[Any] = item.get("at") or ()
    return f"at {moment(moments[0])}" if len(moments) == 1 else counted(len(moments), "moment")


def _next(item: Mapping[str, Any]) -> str | None:
    """The next tick as the clocks of the schedule's zone show it, as everywhere."""
    tick = item["next_tick_at"]
    if tick is None:
        return None
    try:
        return local_time(tick, item["timezone"]).isoformat()
    except NotATiming:  # on this machine
        return local_time(tick, "UTC").isoformat()


def _last(tick: Mapping[str, Any] | None) -> Text:
    if tick is None:
        return Text("-")
    return Text(f"{tick['outcome']} {age(tick['tick'])}", _OUTCOMES.get(tick["outcome"], ""))


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:79]}…"
