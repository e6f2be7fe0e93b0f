"""Ten thousand interleavings of a run's life, and proof that they would find what is wrong.

``PYOCO_LIFE_INTERLEAVINGS`` sets how many are tried.
"""

from __future__ import annotations

import os

import pytest
from hypothesis import Phase
from msgspec.structs import replace

from model.life_machine import TERMINAL, Life, play
from pyoco_server.model import life
from pyoco_server.model.run import RunSnapshot, RunStatus

INTERLEAVINGS = int(os.environ.get("PYOCO_LIFE_INTERLEAVINGS", "10000"))


@pytest.mark.timeout(900)  # on a busy machine
def test_any_interleaving_keeps_the_promises() -> None:
    tally = play(INTERLEAVINGS, Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink)
    print(f"\n{tally}")
    assert tally.runs >= INTERLEAVINGS
    # They are no idle ones.
    assert tally.revisions > 4 * tally.runs
    assert tally.refused_writes > tally.runs / 10
    assert all(tally.ends[status] > tally.runs / 50 for status in TERMINAL)
    assert tally.attempts.total() - tally.attempts[0] - tally.attempts[1] > tally.runs / 20


# A test that finds nothing must be known to find something: each of these was so in 0.5.1.


def claim_what_ended(snapshot: RunSnapshot, **facts: object) -> object:
    """A job that is delivered again after the end of its run is executed again."""
    status = RunStatus.PENDING if snapshot.status.terminal else snapshot.status
    return CLAIM(replace(snapshot, status=status), **facts)  # type: ignore[arg-type]


def claim_what_is_cancelled(snapshot: RunSnapshot, **facts: object) -> object:
    """The first write of a worker discards the cancel of a waiting run."""
    cancelling = snapshot.status is RunStatus.CANCELLING
    status = RunStatus.PENDING if cancelling else snapshot.status
    return CLAIM(replace(snapshot, status=status), **facts)  # type: ignore[arg-type]


def progress_over_a_cancel(snapshot: RunSnapshot, **facts: object) -> object:
    """A worker that writes what it knows overwrites a cancel."""
    running = snapshot.status is RunStatus.CANCELLING
    status = RunStatus.RUNNING if running else snapshot.status
    return PROGRESS(replace(snapshot, status=status), **facts)  # type: ignore[arg-type]


def cancel_what_ended(snapshot: RunSnapshot, **facts: object) -> object:
    """A cancel overwrites the end of a run."""
    status = RunStatus.RUNNING if snapshot.status.terminal else snapshot.status
    return REQUEST_CANCEL(replace(snapshot, status=status), **facts)  # type: ignore[arg-type]


def owned_by_all(snapshot: RunSnapshot, instance_id: str, attempt: int) -> bool:
    """Nothing fences an attempt that another one took the run from."""
    return True


CLAIM, PROGRESS, REQUEST_CANCEL = life.claim, life.progress, life.request_cancel


@pytest.mark.parametrize(
    ("rule_of_life", "planted"),
    [
        ("claim", claim_what_ended),
        ("claim", claim_what_is_cancelled),
        ("progress", progress_over_a_cancel),
        ("request_cancel", cancel_what_ended),
        ("owns", owned_by_all),
    ],
)
def test_a_rule_of_0_5_1_is_found(
    rule_of_life: str, planted: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(life, rule_of_life, planted)
    with pytest.raises(AssertionError):
        play(3000, Phase.generate)


def test_writes_that_look_at_no_revision_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Life, "blind", True)
    with pytest.raises(AssertionError):
        play(3000, Phase.generate)
