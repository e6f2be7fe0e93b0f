"""The same load for Celery; runs in Celery's environment: `python celery_app.py end noop 200`.

Its tasks are jobs as a run is one: a single message, that does nothing in two steps, or sleeps 20 ms.
"""
# mypy: ignore-errors

from __future__ import annotations

import json
import os
import sys
import time

from celery import Celery

app = Celery("celery_app", broker=os.environ["REDIS"] + "/0", backend=os.environ["REDIS"] + "/1")
app.conf.task_acks_late = True
app.conf.worker_prefetch_multiplier = 1
app.conf.broker_connection_retry_on_startup = True


@app.task
def noop() -> None:
    """Do nothing, twice."""
    first()
    second()


@app.task
def pause() -> None:
    """Take 20 ms."""
    time.sleep(0.02)


def first() -> None:
    """Do nothing."""


def second() -> None:
    """Do nothing."""


def submitted(task, count):
    """Submit jobs; how many seconds each took."""
    took = []
    for _ in range(count):
        began = time.perf_counter()
        task.delay()
        took.append(time.perf_counter() - began)
    return took


def ended(task, count):
    """Submit a job when the last one has ended; how many seconds until each was known to have."""
    took = []
    for _ in range(count):
        began = time.perf_counter()
        task.delay().get(timeout=30)
        took.append(time.perf_counter() - began)
    return took


if __name__ == "__main__":
    what, name, count = sys.argv[1:]
    load = {"submit": submitted, "end": ended}[what]
    print(json.dumps(load({"noop": noop, "pause": pause}[name], int(count))))
