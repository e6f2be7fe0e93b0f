"""`metrics`: what Prometheus would be told."""

from __future__ import annotations

import sys

import typer

from pyoco_cli.client.connection import gateway


def metrics(context: typer.Context) -> None:
    """Print the gateway's metrics in Prometheus' text format."""
    with gateway(context) as client:
        text = client.get_metrics()
    sys.stdout.write(text)
