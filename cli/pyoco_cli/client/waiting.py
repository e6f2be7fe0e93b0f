"""Says of a run that waits that no worker will take it, as long as nothing changes."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Final

from pyoco_cli.common.language import Phrase

if TYPE_CHECKING:
    from pyoco_server.client import PyocoHttpClient
    from pyoco_server.client.answers import RunDict

_MOST_WORKERS: Final = 500
"""As many as the gateway tells of at once; it tells of 100 to who does not say."""


def tell_why_it_waits(client: PyocoHttpClient, run: RunDict) -> None:
    """Tell on standard error why no worker takes a run, where that is so."""
    if (why := _why(client, run)) is not None:
        sys.stderr.write(f"- note: {why}\n")
        sys.stderr.flush()


def _why(client: PyocoHttpClient, run: RunDict) -> str | None:
    """Return why no worker takes a run, for people; None where one does, or nobody can tell."""
    from pyoco_server.client import HttpProblem  # noqa: PLC0415 - httpx, see connection.py

    tag = run.get("tag")
    if run.get("status") != "PENDING" or not tag or (run.get("scheduled_for") or 0) > time.time():
        return None
    try:
        workers = client.get_workers(limit=_MOST_WORKERS)  # those that are there
    except HttpProblem:  # the key may not see them
        return None
    takers = [each for each in workers if tag in (each.get("tags") or ())]
    if not takers:
        others = sorted({name for each in workers for name in each.get("tags") or ()})
        return Phrase.NO_WORKER.fill(tag=tag, tags=", ".join(others) or "-")
    if all(each.get("paused") or each.get("draining") for each in takers):
        return Phrase.WORKERS_PAUSED.fill(tag=tag, worker=str(takers[0]["worker_id"]))
    return None
