"""What a recording tells of those who ran it, taken out: the shape of what happened stays."""

from __future__ import annotations

from typing import Final

from msgspec.structs import replace

from pyoco_server.model.dead_letter import DeadLetterReason
from pyoco_server.model.life import CANCELLED, LOST, WORKER_STOPPED
from pyoco_server.scenario.recording import RecordedRun, RecordedState

REDACTED: Final = "redacted"
# Words of our own. Anything else was written by somebody, such as the sender of a cancel.
_OWN_WORDS: Final = {
    *(reason.value for reason in DeadLetterReason),
    CANCELLED,
    LOST,
    WORKER_STOPPED,
}


def redact_run(run: RecordedRun) -> RecordedRun:
    """Leave of params their names, and of reasons those that are words of pyoco-server's own."""
    return replace(
        run,
        params=dict.fromkeys(run.params, REDACTED),
        states=[_redact_state(state) for state in run.states],
    )


def _redact_state(state: RecordedState) -> RecordedState:
    if state.reason is None or state.reason in _OWN_WORDS:
        return state
    return replace(state, reason=REDACTED)
