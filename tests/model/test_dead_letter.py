from __future__ import annotations

import json
from pathlib import Path

import pytest

from pyoco_server.model.dead_letter import (
    DeadLetter,
    DeadLetterReason,
    UnreadableDeadLetter,
    decode_dead_letter,
    payload_text,
)
from pyoco_server.model.json_text import encode_json

GOLDEN = Path(__file__).parent / "golden"


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("dlq_*.json")), ids=lambda p: p.stem)
def test_a_dead_letter_of_0_5_1_is_read_and_written_with_nothing_lost(path: Path) -> None:
    raw = path.read_bytes()
    known = {name: value for name, value in json.loads(raw).items() if value is not None}
    letter = decode_dead_letter(raw)
    assert json.loads(encode_json(letter)) == known
    assert DeadLetterReason(letter.reason)


def test_what_is_not_known_is_not_written() -> None:
    letter = DeadLetter(timestamp=1.5, reason=DeadLetterReason.TIMEOUT, error=None, run_id="r")
    assert json.loads(encode_json(letter)) == {
        "timestamp": 1.5,
        "reason": "timeout",
        "error": None,
        "run_id": "r",
    }
    assert decode_dead_letter(encode_json(letter)) == letter


def test_a_payload_is_cut_and_always_text() -> None:
    assert payload_text(b"\xffok") == "\N{REPLACEMENT CHARACTER}ok"
    assert len(payload_text(b"x" * 9000)) == 4096


def test_a_reason_of_another_version_is_taken() -> None:
    assert decode_dead_letter(b'{"timestamp": 1, "reason": "moon"}').reason == "moon"


@pytest.mark.parametrize("raw", [b"", b"[]", b'{"reason": "x"}'])
def test_what_is_no_dead_letter_is_refused(raw: bytes) -> None:
    with pytest.raises(UnreadableDeadLetter, match="cannot be understood"):
        decode_dead_letter(raw)
