"""Many short runs in a row; pyoco-server 0.5.1 hangs for good within thirty of them."""

from __future__ import annotations

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from e2e.programs import TERMINAL, Stage, wait_for

RUNS = 2000

RESOLVER = """\
from pyoco.core.models import Flow
from pyoco.dsl.syntax import task


@task
def nothing():
    return None


def resolve(name):
    return Flow(name=name) >> nothing
"""


@pytest.mark.slow
def test_two_thousand_runs_in_a_row_all_complete(stage: Stage) -> None:
    (stage.folder / "flows.py").write_text(RESOLVER)
    stage.nats()
    stage.gateway()
    stage.worker("--slots", "4", "--flow-resolver", "flows.py:resolve")
    began = time.monotonic()
    with httpx.Client(base_url=stage.url, timeout=60) as client:

        def submit(_: int) -> str:
            answer = client.post("/runs", json={"flow_name": "nothing", "tag": "hello"})
            assert answer.status_code == 200, answer.text
            run_id: str = answer.json()["run_id"]
            return run_id

        with ThreadPoolExecutor(8) as pool:
            run_ids = list(pool.map(submit, range(RUNS)))
        submitted = time.monotonic() - began
        open_runs = set(run_ids)
        ended: Counter[str] = Counter()

        def all_ended() -> bool:
            # In the order of submission, so that a look costs about what has ended since the last.
            for run_id in run_ids[sum(ended.values()) :]:
                status = client.get(f"/runs/{run_id}").json()["status"]
                if status not in TERMINAL:
                    return False
                ended[status] += 1
                open_runs.discard(run_id)
            return True

        wait_for(all_ended, within=240, what="the end of all runs")
    took = time.monotonic() - began
    print(
        f"\n{RUNS} runs in {took:.1f} s: {RUNS / took:.0f} runs/s "
        f"(submitted at {RUNS / submitted:.0f}/s)"
    )
    assert ended == {"COMPLETED": RUNS}
