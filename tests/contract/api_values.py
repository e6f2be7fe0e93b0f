"""What schemathesis cannot know: values of the formats that the API description names. Loaded by it.

The environment names what there is: ``API_RUNS``, ``API_WORKERS``, ``API_LETTERS``, ``API_NAMES`` (of files).
"""

from __future__ import annotations

import os
import string
import time
import uuid
from typing import Any

import schemathesis
from hypothesis import strategies as st

from wheels.making import file_name, wheel_bytes

_KEY_HEADER = "Idempotency-Key"
_PLAIN = string.ascii_letters + string.digits + "_-"
_YAML = """\
flow:
  graph: a >> b
tasks:
  a: {callable: "m:a"}
  b: {callable: "m:b"}
"""


def _known(variable: str) -> st.SearchStrategy[str]:
    """What there is, or any other name."""
    return st.sampled_from(os.environ[variable].split(",")) | st.text(_PLAIN, min_size=1)


_FORMATS: dict[str, st.SearchStrategy[Any]] = {
    "run-id": _known("API_RUNS"),
    "worker-id": _known("API_WORKERS"),
    "schedule-id": _known("API_SCHEDULES"),
    "crontab": st.sampled_from(["*/5 * * * *", "30 2 * * 1-5", "0 0 12 * * *"]),
    "time-zone": st.sampled_from(["UTC", "Europe/Berlin", "Asia/Tokyo"]),
    "recurrence-rule": st.sampled_from(["FREQ=DAILY", "FREQ=WEEKLY;BYDAY=MO"]),
    "seq": _known("API_LETTERS"),
    "name": _known("API_NAMES"),
    "byte-range": st.sampled_from(["bytes=0-3", "bytes=4-", "bytes=-5"]),
    "wheel-name": st.just(file_name()),
    "printable": st.text(
        st.characters(exclude_categories=["C", "Z"], max_codepoint=0x2FF), max_size=40
    ),
    "idempotency-key": st.text(_PLAIN, min_size=1, max_size=60),
    "worker-tags": st.lists(st.text(_PLAIN, min_size=1, max_size=20), max_size=5).map(",".join),
    # Opaque: only an answer's own can be used again.
    "list-cursor": st.just(""),
    "event-cursor": st.just(""),
    "json-object": st.sampled_from(["{}", '{"x": 1, "y": [null, "é"]}']),
    "flow-yaml": st.just(_YAML),
    "number-text": st.sampled_from(["", "2"]),
    "moment": st.sampled_from(["2020-01-31T09:00:00Z", "2020-01-31T09:00:00.5+09:00", "1.5e9"]),
    "date-and-time": st.sampled_from(["2020-01-31T09:00", "2020-01-31T09:00:00+09:00"]),
    "flow-digest": st.just("0" * 64),
    "wheel": st.just(wheel_bytes("demo", "1.0")),
}
for _name, _strategy in _FORMATS.items():
    schemathesis.openapi.format(_name, _strategy)


def _make_times_agree(body: dict[str, Any]) -> None:
    for moment, span in (("start_at", "delay_sec"), ("expires_at", "queue_ttl_sec")):
        if body.get(moment) not in (None, ""):
            if isinstance(body[moment], float | int):
                body[moment] = min(body[moment], time.time())
            body.pop(span, None)
    if body.get("delay_sec") not in (None, ""):
        body.pop("expires_at", None)


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: Any) -> None:
    """Keep to what no schema can say.

    Two submissions with one key are one by intent, and the last lines of what still comes are not known.
    """
    if case.meta is not None and case.meta.generation.mode.is_negative:
        return  # it is wrong on purpose, which a change would undo
    if isinstance(case.body, dict) and "/schedules" in case.path:
        if "end_at" in case.body:
            case.body["end_at"] = None
        for name in ("version", "workflow_yaml_sha256"):
            if name in case.body:
                case.body[name] = None
        if "from" in case.body:
            case.body |= {"from": 0, "to": 86_400, "dry_run": True}
    if _KEY_HEADER in (case.headers or {}):
        case.headers[_KEY_HEADER] = uuid.uuid4().hex
    if isinstance(case.body, dict):
        _make_times_agree(case.body)
    if "minutes" in case.query:
        # Many minutes are told in wide steps only.
        case.query["step_minutes"] = 1440
    if "steps" in case.query:
        case.query["submitted_after"] = 0
    if "follow" in case.query:
        case.query.pop("tail", None)
        case.query.pop("format", None)  # as plain text it has no end
