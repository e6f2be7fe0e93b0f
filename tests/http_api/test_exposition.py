"""Metrics as text: what prometheus_client itself would write."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Gauge, Histogram, generate_latest

from pyoco_http.metrics import exposition
from pyoco_server.gateway.measures import Measures

LABELS = st.tuples(st.text(max_size=5), st.sampled_from(["", "\\", '"', "\n", '/runs/{id}\\n"é']))
VALUES = st.floats() | st.sampled_from([0.0, 1e6, 1e7, 123456789.0, 1e300, float("inf")])


@given(
    alone=VALUES,
    gauged=st.dictionaries(LABELS, VALUES, max_size=4),
    observed=st.dictionaries(LABELS, st.lists(st.floats(0, 1e9), max_size=4), max_size=4),
)
def test_it_is_the_librarys_text(
    alone: float,
    gauged: dict[tuple[str, str], float],
    observed: dict[tuple[str, str], list[float]],
) -> None:
    Measures()  # which leaves the moments away at which metrics were made
    registry = CollectorRegistry()
    Gauge("pyoco_alone", "One value.", registry=registry).set(alone)
    gauge = Gauge("pyoco_gauged", "Some values.", ["route", "method"], registry=registry)
    for labels, value in gauged.items():
        gauge.labels(*labels).set(value)
    histogram = Histogram(
        "pyoco_observed_seconds",
        "Some times.",
        ["route", "a"],
        buckets=(0.5, 7200),
        registry=registry,
    )
    for labels, values in observed.items():
        for value in values:
            histogram.labels(*labels).observe(value)
    assert exposition(registry.collect()) == generate_latest(registry)
