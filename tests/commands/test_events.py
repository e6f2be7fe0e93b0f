"""What `pyoco-client events` knows of events is what there is."""

from __future__ import annotations

from typing import get_args

from pyoco_cli.client.logs import EventType, Stream, lines_of
from pyoco_server.model.event import EVENT_TYPES, StreamName


def test_the_words_of_the_options_are_those_of_the_gateway() -> None:
    assert tuple(EventType) == EVENT_TYPES
    assert tuple(Stream) == get_args(StreamName)


def test_what_was_expected_of_a_late_run_is_told() -> None:
    [line] = lines_of({"type": "late", "at": 0, "what": "start", "expected_at": 60})
    assert "  run  late: its start was expected by " in line
