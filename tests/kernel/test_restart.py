"""Rules of the restart window and the backoff."""

from __future__ import annotations

import math
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyoco_server.kernel import Backoff, Intensity, InvalidSpec, RestartWindow

steps = st.lists(st.integers(0, 50), min_size=1, max_size=40)  # whole seconds between restarts


@given(steps, st.integers(0, 5), st.integers(1, 60))
def test_window_allows_as_many_restarts_as_fell_into_it(
    gaps: list[int], restarts: int, seconds: int
) -> None:
    window = RestartWindow(Intensity(restarts, seconds))
    times: list[int] = []
    for gap in gaps:
        times.append(gap + (times[-1] if times else 0))
        recent = [time for time in times if time > times[-1] - seconds]
        assert window.record(times[-1]) == (len(recent) <= restarts)
        assert len(window) == len(recent)


@given(steps)
def test_no_restart_allowed_means_none(gaps: list[int]) -> None:
    window = RestartWindow(Intensity(restarts=0))
    assert not window.record(0.0)


@st.composite
def backoffs(draw: st.DrawFn) -> Backoff:
    maximum = draw(st.floats(0, 1e6))
    return Backoff(
        initial=draw(st.floats(0, maximum)),
        factor=draw(st.floats(1, 1e12)),
        maximum=maximum,
        jitter=draw(st.floats(0, 1, exclude_max=True)),
    )


@given(backoffs(), st.integers(1, 100_000), st.integers())
def test_delay_stays_between_nothing_and_the_maximum(
    backoff: Backoff, failures: int, seed: int
) -> None:
    delay = backoff.delay(failures, Random(seed))
    assert 0 <= delay <= backoff.maximum


@given(backoffs(), st.integers(1, 1000), st.integers())
def test_delay_stays_within_its_jitter(backoff: Backoff, failures: int, seed: int) -> None:
    plain = Backoff(backoff.initial, backoff.factor, backoff.maximum, jitter=0.0)
    middle = plain.delay(failures, Random(seed))
    delay = backoff.delay(failures, Random(seed))
    assert abs(delay - middle) <= middle * backoff.jitter * (1 + 1e-9) + 1e-9


@given(backoffs(), st.integers(1, 1000))
def test_delay_without_jitter_never_shrinks(backoff: Backoff, failures: int) -> None:
    plain = Backoff(backoff.initial, backoff.factor, backoff.maximum, jitter=0.0)
    assert plain.delay(failures, Random(0)) <= plain.delay(failures + 1, Random(0))


def test_delay_doubles_up_to_the_maximum() -> None:
    backoff = Backoff(initial=1.0, factor=2.0, maximum=10.0, jitter=0.0)
    delays = [backoff.delay(failures, Random(0)) for failures in (1, 2, 3, 4, 5, 6, 5000)]
    assert delays == [1, 2, 4, 8, 10, 10, 10]


def test_nothing_stays_nothing_however_often_it_grows() -> None:
    assert Backoff(initial=0.0).delay(1_000_000, Random(0)) == 0


def test_same_seed_same_delays() -> None:
    def draw() -> list[float]:
        random = Random(3)
        return [Backoff().delay(n, random) for n in range(1, 20)]

    assert draw() == draw()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("initial", -1.0),
        ("initial", 11.0),
        ("initial", math.nan),
        ("maximum", math.inf),
        ("factor", 0.5),
        ("factor", math.inf),
        ("factor", math.nan),
        ("jitter", 1.0),
        ("jitter", -0.1),
        ("healthy_after", -1.0),
        ("healthy_after", math.nan),
    ],
)
def test_backoff_refuses_and_says_which(field: str, value: float) -> None:
    with pytest.raises(InvalidSpec, match=f"{'initial' if field == 'maximum' else field} .*takes"):
        Backoff(**{field: value})


@pytest.mark.parametrize(
    ("field", "value"),
    [("restarts", -1), ("seconds", 0), ("seconds", math.nan), ("consecutive", -1)],
)
def test_intensity_refuses_and_says_which(field: str, value: float) -> None:
    with pytest.raises(InvalidSpec, match=f"{field} .*takes"):
        Intensity(**{field: value})  # type: ignore[arg-type]
