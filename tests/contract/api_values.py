"""What schemathesis cannot know: values of the formats that the API description names. Loaded by it."""

from __future__ import annotations

import string
import uuid
from typing import Any

import schemathesis
from hypothesis import strategies as st

from wheels.making import wheel_bytes

_KEY_HEADER = "Idempotency-Key"
_PLAIN = string.ascii_letters + string.digits + "_-"
_YAML = """\
flow:
  graph: a >> b
tasks:
  a: {callable: "m:a"}
  b: {callable: "m:b"}
"""
_FORMATS: dict[str, st.SearchStrategy[Any]] = {
    "printable": st.text(
        st.characters(exclude_categories=["C", "Z"], max_codepoint=0x2FF), max_size=40
    ),
    "idempotency-key": st.text(_PLAIN, min_size=1, max_size=60),
    "worker-tags": st.lists(st.text(_PLAIN, min_size=1, max_size=20), max_size=5).map(",".join),
    # Opaque: only an answer's own can be used again.
    "list-cursor": st.just(""),
    "event-cursor": st.just(""),
    "wheel-name": st.just("demo-1.0-py3-none-any.whl"),
    "flow-yaml": st.just(_YAML),
    "wheel": st.just(wheel_bytes("demo", "1.0")),
}
for _name, _strategy in _FORMATS.items():
    schemathesis.openapi.format(_name, _strategy)


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: Any) -> None:
    """Let no stream last, whatever else is asked of it, and let each submission be one of its own."""
    if _KEY_HEADER in (case.headers or {}):
        # Two submissions with one key are one by intent, which no schema can say.
        case.headers[_KEY_HEADER] = uuid.uuid4().hex
    query = case.query or {}
    if case.path.endswith(("/watch", "/stream")) and isinstance(
        query.get("timeout_sec", 60), (int, float)
    ):
        query["timeout_sec"] = 1
    query.pop("follow", None)
