"""Framing: whatever the pieces, the same messages."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from pyoco_server.model.run import TryRecord
from pyoco_server.worker.runner.protocol import (
    FROM_CHILD,
    FROM_WORKER,
    MAX_FRAME_BYTES,
    CancelRun,
    Execute,
    Frames,
    ProtocolError,
    Ready,
    Stop,
    TriesTold,
    frame,
)

NAMES = st.text(st.characters(exclude_categories=["Cs"]))
MESSAGES = st.one_of(
    st.builds(CancelRun, run_id=NAMES),
    st.just(Stop()),
    st.builds(
        Execute,
        run_id=NAMES,
        attempt=st.integers(1, 9),
        flow_name=NAMES,
        params=st.dictionaries(NAMES, NAMES | st.integers() | st.none()),
        workflow_yaml=st.none() | NAMES,
    ),
)


@given(st.lists(MESSAGES), st.data())
def test_messages_survive_any_cut(
    messages: list[CancelRun | Stop | Execute], data: st.DataObject
) -> None:
    raw = b"".join(frame(message) for message in messages)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)))))
    frames = Frames(FROM_WORKER, "worker")
    came = []
    for start, end in zip([0, *cuts], [*cuts, len(raw)], strict=True):
        came += frames.feed(raw[start:end])
    assert came == messages


@pytest.mark.parametrize("body", [b"", b"{}", b'{"type":"nothing"}', b'{"type":"stop"', b"\xff"])
def test_what_is_no_message_is_refused(body: bytes) -> None:
    raw = len(body).to_bytes(4, "big") + body
    with pytest.raises(ProtocolError):
        Frames(FROM_WORKER, "worker").feed(raw)
    with pytest.raises(ProtocolError):
        Frames(FROM_CHILD, "runner").feed(raw)


def test_a_text_that_utf_8_cannot_carry_comes_in_its_message() -> None:
    told = TriesTold(run_id="r", key="a", tries=(TryRecord(number=1, error="\udce9"),))
    (came,) = Frames(FROM_CHILD, "runner").feed(frame(told))
    assert came == replace(told, tries=(TryRecord(number=1, error="\\udce9"),))


def test_the_sides_do_not_take_their_own_messages() -> None:
    with pytest.raises(ProtocolError):
        Frames(FROM_CHILD, "runner").feed(frame(Stop()))
    with pytest.raises(ProtocolError):
        Frames(FROM_WORKER, "worker").feed(frame(Ready()))


def test_a_frame_that_is_too_long_is_refused_before_it_is_gathered() -> None:
    with pytest.raises(ProtocolError, match=f"{MAX_FRAME_BYTES} is the most"):
        Frames(FROM_CHILD, "runner").feed(MAX_FRAME_BYTES.to_bytes(4, "big"))
