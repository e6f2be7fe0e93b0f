"""Rules of `plan`: which siblings stop and start when one child ended."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyoco_server.kernel import Strategy, plan


@st.composite
def an_end(draw: st.DrawFn) -> tuple[Strategy, list[str], str]:
    order = draw(st.lists(st.text("abcdef", min_size=1), min_size=1, max_size=8, unique=True))
    return draw(st.sampled_from(Strategy)), order, draw(st.sampled_from(order))


@given(an_end())
def test_stops_and_starts_are_in_order_of_start(case: tuple[Strategy, list[str], str]) -> None:
    strategy, order, ended = case
    planned = plan(strategy, order, ended)
    assert list(planned.start) == sorted(planned.start, key=order.index)
    assert list(planned.stop) == sorted(planned.stop, key=order.index)


@given(an_end())
def test_starts_what_ended_and_what_it_stops_and_nothing_else(
    case: tuple[Strategy, list[str], str],
) -> None:
    strategy, order, ended = case
    planned = plan(strategy, order, ended)
    assert set(planned.start) == {ended, *planned.stop}
    assert ended not in planned.stop
    assert len(set(planned.start)) == len(planned.start)


@given(an_end())
def test_covers_those_who_share_the_fate(case: tuple[Strategy, list[str], str]) -> None:
    strategy, order, ended = case
    covered = set(plan(strategy, order, ended).start)
    for name in order:
        older = order.index(name) < order.index(ended)
        match strategy:
            case Strategy.ONE_FOR_ONE:
                assert (name in covered) == (name == ended)
            case Strategy.ONE_FOR_ALL:
                assert name in covered
            case Strategy.REST_FOR_ONE:
                assert (name in covered) == (not older)


@pytest.mark.parametrize(
    ("strategy", "stop", "start"),
    [
        (Strategy.ONE_FOR_ONE, (), ("b",)),
        (Strategy.REST_FOR_ONE, ("c", "d"), ("b", "c", "d")),
        (Strategy.ONE_FOR_ALL, ("a", "c", "d"), ("a", "b", "c", "d")),
    ],
)
def test_by_example(strategy: Strategy, stop: tuple[str, ...], start: tuple[str, ...]) -> None:
    planned = plan(strategy, ["a", "b", "c", "d"], "b")
    assert (planned.stop, planned.start) == (stop, start)
