"""schemathesis over the API description of a running gateway, with every check it has.

``PYOCO_TEST_API_EXAMPLES`` sets how many cases each route and phase may have; 60 make more than 5,000.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.programs import BIN, Stage, open_stage

EXAMPLES = os.environ.get("PYOCO_TEST_API_EXAMPLES", "4")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with open_stage(tmp_path) as stage:
        yield stage


def test_no_500_and_nothing_undocumented(stage: Stage) -> None:
    stage.env["PYOCO_HTTP_AUTH_MODE"] = "api_key"
    stage.nats()
    gateway = stage.gateway("--log-level", "error")
    made = stage.run(
        *f"pyoco-server-admin --nats-url {stage.nats_url} api-key create --tenant t".split()
    )
    key = json.loads(made.splitlines()[-1])["api_key"]
    tests = Path(__file__).parent.parent
    done = subprocess.run(
        [
            *[str(BIN / "schemathesis"), "run", f"{stage.url}/openapi.json"],
            *["-H", f"X-API-Key: {key}", "--checks", "all", "--no-color"],
            *["--max-examples", EXAMPLES, "--phases", "examples,coverage,fuzzing"],
            *["--request-timeout", "30", "--generation-database", "none"],
        ],
        env={
            **stage.env,
            "PYTHONPATH": str(tests),
            "SCHEMATHESIS_HOOKS": "contract.api_values",
        },
        cwd=stage.folder,
        capture_output=True,
        text=True,
        timeout=3500,
        check=False,
    )
    said = done.stdout + done.stderr
    print(said[-3000:])
    assert done.returncode == 0, said
    tested = re.search(r"Tested: (\d+)", said)
    cases = re.search(r"(\d+) generated", said)
    assert tested is not None
    assert int(tested[1]) >= 35
    assert cases is not None
    assert int(cases[1]) >= 500
    assert "Traceback" not in gateway.text()
