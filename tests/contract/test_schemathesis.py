"""schemathesis over the API description of a running gateway, with every check it has.

The cases are the same each time; ``PYOCO_TEST_API_SEED`` names others, and ``PYOCO_TEST_API_EXAMPLES`` how
many each route may have beyond those of the coverage phase: 140 make more than 5,000 cases in all, and take
minutes.
"""

from __future__ import annotations

import os
import re
import subprocess
from functools import partial
from pathlib import Path

import pytest
import trio

from contract.populated import ARTIFACT, populate, write_letter
from e2e.programs import BIN
from http_api.answers import known_operations
from http_api.gateway import gateway
from http_api.keyed import KEYED, key_for

EXAMPLES = os.environ.get("PYOCO_TEST_API_EXAMPLES", "10")
SEED = os.environ.get("PYOCO_TEST_API_SEED", "1")
LETTERS = 40

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]


async def test_no_500_and_nothing_undocumented(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A stream is read up to its first event, which may be a heartbeat.
    monkeypatch.setattr("pyoco_http.sse.HEARTBEAT_SECONDS", 0.05)
    here = Path(__file__).parent
    async with gateway(tmp_path, worker=False, **KEYED) as (client, backend):
        key, _ = await key_for(backend, "t")
        there = await populate(client, backend, key, "t")
        letters = [await write_letter(backend, there.ended, "t") for _ in range(LETTERS)]
        done = await trio.run_process(
            [
                *[str(BIN / "schemathesis"), "--config-file", str(here / "schemathesis.toml")],
                *["run", str(client.base_url.join("/openapi.json")), "--no-color"],
                *["-H", f"X-API-Key: {key}", "--checks", "all"],
                *["--seed", SEED, "--max-examples", EXAMPLES, "--phases", "coverage,fuzzing"],
            ],
            env={
                **os.environ,
                "PYTHONPATH": str(here.parent),
                "SCHEMATHESIS_HOOKS": "contract.api_values",
                "API_RUNS": f"{there.ended},{there.pending}",
                "API_WORKERS": there.worker,
                "API_SCHEDULES": there.schedule,
                "API_LETTERS": ",".join(map(str, letters)),
                "API_NAMES": f"{there.wheel},{ARTIFACT},docs.css",
            },
            cwd=tmp_path,
            capture_stdout=True,
            stderr=subprocess.STDOUT,
            check=False,
        )
    said = done.stdout.decode()
    print(said[-3000:])
    assert done.returncode == 0, said
    found = partial(re.search, string=said)
    tested, cases = found(r"Tested: (\d+)"), found(r"(\d+) generated")
    assert tested is not None
    assert cases is not None
    assert int(tested[1]) == len(known_operations()) - 1  # it leaves out the description itself
    assert int(cases[1]) >= (5000 if int(EXAMPLES) >= 140 else 1000)
