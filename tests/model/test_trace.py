"""Request ids and trace contexts come from strangers: what cannot be read is not passed on."""

from __future__ import annotations

import pytest

from pyoco_server.model.trace import REQUEST_ID, log_fields, trace_id

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SPAN = "00f067aa0ba902b7"


@pytest.mark.parametrize(
    "text", [f"00-{TRACE}-{SPAN}-01", f"00-{TRACE}-{SPAN}-00", f"01-{TRACE}-{SPAN}-01-later"]
)
def test_a_trace_context_has_a_trace_id(text: str) -> None:
    assert trace_id(text) == TRACE


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE}-{SPAN}-01-more",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01\n",
        f"01-{TRACE}-{SPAN}-01-{'x' * 300}",
    ],
)
def test_what_is_none_has_no_trace_id(text: str | None) -> None:
    assert trace_id(text) is None


def test_log_lines_have_the_fields_that_are_known() -> None:
    assert log_fields("r-1", f"00-{TRACE}-{SPAN}-01") == {"request_id": "r-1", "trace_id": TRACE}
    assert log_fields("r-1", "garbage") == {"request_id": "r-1"}
    assert log_fields(None, None) == {}


@pytest.mark.parametrize("text", ["", "a b", "a\nb", "ü", "x" * 129])
def test_a_request_id_is_one_short_word(text: str) -> None:
    assert REQUEST_ID.fullmatch(text) is None
