"""How people see workers, wheels and keys, and any other of the API's documents."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.json import JSON
from rich.text import Text

from pyoco_cli.client.drawing import STYLES, Fitted, done, facts, line, styled, table, text
from pyoco_cli.client.words import age, moment
from pyoco_cli.common.output import printable


def cells_table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> RenderableType:
    """The columns of a plain table, drawn for people."""
    columns = {
        head: [styled(row[place]) if row[place] in STYLES else text(row[place]) for row in rows]
        for place, head in enumerate(headers)
    }
    return table(columns, "no items")


def workers_table(workers: Sequence[dict[str, Any]]) -> RenderableType:
    """Workers, one a line."""
    columns = {
        "worker": [text(worker.get("worker_id")) for worker in workers],
        "state": [state_of(worker) for worker in workers],
        "seen": [Text(f"{age(worker.get('last_seen_at'))} ago") for worker in workers],
        "run": [text(worker.get("current_run_id") or "") for worker in workers],
        "last run": [styled(worker.get("last_run_status") or "") for worker in workers],
        "tags": [line(_listed(worker.get("tags"))) for worker in workers],
    }
    last = ("run", "seen", "last run")
    return Group(Fitted(columns, last=last, rest="tags", nothing="no workers"), *_orders(workers))


def _listed(tags: Sequence[object] | None) -> str:
    return ",".join(map(str, tags or []))


def ordered(answer: dict[str, Any]) -> RenderableType:
    """What a worker was told just now."""
    order = (
        "drains" if answer.get("draining") else "is paused" if answer.get("paused") else "goes on"
    )
    return done("worker", answer.get("worker_id"), f" {order}")


def stopped(answer: dict[str, Any]) -> RenderableType:
    """A worker that was waited for."""
    return done("worker", answer.get("worker_id"), " has stopped")


def _orders(workers: Iterable[dict[str, Any]]) -> Iterable[Text]:
    """By whom workers were told not to work, and why."""
    for worker in workers:
        order = "draining" if worker.get("draining") else "paused" if worker.get("paused") else None
        if order is None or worker.get("ordered_at") is None:
            continue
        by, why = worker.get("ordered_by"), worker.get("order_reason")
        said = [f"{order} {age(worker['ordered_at'])} ago", f"by {by}" if by else "", why or ""]
        told = f"{worker.get('worker_id')}: {', '.join(part for part in said if part)}"
        yield Text(printable(told), "yellow")


_DELETED = {"schedule_id": "schedule", "name": "wheel", "seq": "dead letter"}


def gone(answer: dict[str, Any]) -> RenderableType:
    """Something that was deleted just now."""
    name, what = next((each for each in _DELETED.items() if each[0] in answer), ("", ""))
    return done(f"deleted {what}", answer.get(name))


def state_of(worker: dict[str, Any]) -> Text:
    """The state of a worker, what an operator told it, and whether a slot of it takes no runs by itself."""
    paused, draining = bool(worker.get("paused")), bool(worker.get("draining"))
    resting = any(slot.get("resting") for slot in worker.get("slots") or [])
    return worker_state(str(worker.get("state")), paused=paused, draining=draining, resting=resting)


def worker_state(state: str, *, paused: bool, draining: bool, resting: bool) -> Text:
    """The same of its parts; nothing is told of a worker that has gone."""
    order = "draining" if draining else "paused" if paused else "resting" if resting else None
    if order is None or state not in {"RUNNING", "IDLE"}:
        return styled(state)
    return Text.assemble(styled(state), " ", (order, "yellow"))


def wheels_table(wheels: Sequence[dict[str, Any]]) -> RenderableType:
    """Wheels, one a line."""
    columns = {
        "wheel": [text(wheel.get("name")) for wheel in wheels],
        "bytes": [text(wheel.get("size_bytes")) for wheel in wheels],
        "changed": [Text(f"{age(wheel.get('mtime'))} ago") for wheel in wheels],
        "tags": [line(_listed(wheel.get("tags")) or "(all workers)") for wheel in wheels],
    }
    owners = [wheel.get("tenant_id") for wheel in wheels]
    if len(set(owners)) > 1:
        columns["tenant"] = [line(owner or "(all tenants)") for owner in owners]
    spare = [head for head in ("tenant", "changed", "bytes") if head in columns]
    return Fitted(columns, spare=spare, rest="tags", nothing="no wheels")


def uploaded(wheel: dict[str, Any]) -> RenderableType:
    """A wheel that was uploaded just now."""
    tags = ", ".join(map(str, wheel.get("tags") or []))
    workers = f"workers with the tags {printable(tags)}" if tags else "all workers"
    return done("uploaded", wheel.get("name"), (f" for {workers}", "dim"))


def built(wheel: dict[str, Any]) -> RenderableType:
    """A wheel that was built just now, and what was brought along."""
    names = "".join(f"\nbrought {name}" for name in wheel.get("dependencies") or [])
    return done("built", wheel.get("path"), (printable(names), "dim"))


def history_table(events: Sequence[dict[str, Any]]) -> RenderableType:
    """What was done to wheels, one a line."""
    by = [
        (event.get("actor") or {}).get("api_key_id")
        or (event.get("source") or {}).get("remote_addr")
        for event in events
    ]
    columns = {
        "when": [Text(moment(event.get("occurred_at"))) for event in events],
        "action": [text(event.get("action")) for event in events],
        "wheel": [text(event.get("wheel_name")) for event in events],
        "tags": [line(_listed(event.get("tags"))) for event in events],
        "by": [line(who or "") for who in by],
    }
    return Fitted(columns, last=("action", "when"), spare=("tags",), rest="by", nothing="no events")


def keys_table(keys: Sequence[dict[str, Any]]) -> RenderableType:
    """API keys, one a line."""
    columns = {
        "key": [text(key.get("key_id")) for key in keys],
        "tenant": [text(key.get("tenant_id")) for key in keys],
        "roles": [text(_roles(key)) for key in keys],
        "made": [Text(f"{age(key.get('created_at'))} ago") for key in keys],
        "ends": [Text(moment(key.get("expires_at")) or "never") for key in keys],
        "state": [_key_state(key) for key in keys],
    }
    return table(columns, "no keys")


def _roles(key: dict[str, Any]) -> str:
    return ", ".join(key.get("roles") or []) or "(reads only)"


def caller(answer: dict[str, Any]) -> RenderableType:
    """Whose key commands carry, to which gateway, and what it may do."""
    return facts(
        ("gateway", f"{answer.get('server')}, {answer.get('version')}"),
        ("key", answer.get("key_id") or "(none is asked for)"),
        ("tenant", answer.get("tenant_id") or "(sees those of all)"),
        ("roles", _roles(answer)),
    )


def _key_state(key: dict[str, Any]) -> Text:
    if key.get("revoked_at"):
        return Text("revoked", "dim")
    ends = key.get("expires_at")
    return Text("expired", "dim") if ends and ends <= time.time() else Text("valid", "green")


def key_panel(key: dict[str, Any]) -> RenderableType:
    """A key that was made just now, with its text."""
    told = facts(
        ("key", key.get("key_id")),
        ("tenant", key.get("tenant_id")),
        ("roles", _roles(key)),
        ("ends", moment(key.get("expires_at")) or "never"),
    )
    # In a line of its own, and whole, to be copied.
    whole = Text(printable(key.get("api_key")), "bold", no_wrap=True, overflow="ignore")
    return Group(told, Text("its text, shown this once:", "dim"), whole)


def document(value: Any) -> RenderableType:
    """Any JSON document, indented and coloured."""
    return JSON.from_data(value, ensure_ascii=False)
