"""0.5.1's own end-to-end tests of its gateway, with ours in its place; client and worker are its own.

They come with its source distribution, as functions without fixtures, and start the gateway as
``python -m uvicorn``: a module of that name stands before the real one and starts ours.

Three are left out. ``…cancel_run_transitions_to_cancelled_and_idempotent`` and
``…cancel_requires_auth_and_hides_cross_tenant`` want CANCELLING for a run that was still waiting, which is
CANCELLED at once here; ``…dashboard_static_assets_served`` looks for names inside of 0.5.1's page.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tarfile
import tempfile
from contextlib import suppress
from pathlib import Path

import pytest

from pyoco_server.scenario.versions import cache_folder

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

_TESTS = {
    "test_nats_e2e": (
        "test_http_gateway_e2e_submit_list_and_task_status",
        "test_http_gateway_e2e_submit_yaml_and_run",
        "test_http_gateway_vnext_list_cursor_filter_and_invalid_cursor",
        "test_http_gateway_watch_sse_stream_reaches_terminal",
        "test_http_gateway_metrics_and_workers_endpoints",
        "test_http_gateway_workers_filters_hide_and_disconnected",
        "test_worker_registry_state_transitions_and_reconnect",
        "test_http_gateway_default_allows_submit_without_api_key",
        "test_http_gateway_api_key_auth_and_admin_cli_e2e",
        "test_http_submit_publish_failure_leaves_no_orphan_run",
    ),
    "test_wheel_registry": (
        "test_http_wheel_registry_endpoints_upload_list_download_delete",
        "test_http_wheel_registry_upload_requires_strict_version_bump",
    ),
}
_BIN = Path(sys.executable).parent
_UVICORN = f"""\
import os, sys
options = dict(zip(sys.argv, sys.argv[1:]))
del os.environ["PYTHONPATH"]
where = [name for option in ("--host", "--port") for name in (option, options[option])]
os.execv({str(_BIN / "pyoco-server")!r}, ["pyoco-server", "up", *where])
"""


@pytest.fixture(scope="session")
def suite(old_bin: Path) -> Path:
    """The folder with the tests of 0.5.1."""
    home = cache_folder() / "pyoco-server-0.5.1.tests"
    if not home.is_dir():
        home.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=home.parent) as made:
            wanted = ["--no-deps", "--no-binary", "pyoco-server", "pyoco-server==0.5.1"]
            pip = [str(old_bin / "python"), "-m", "pip", "download", "--quiet", "--dest", made]
            subprocess.run([*pip, *wanted], check=True, timeout=200)
            with tarfile.open(Path(made) / "pyoco_server-0.5.1.tar.gz") as archive:
                archive.extractall(made, filter="data")
            with suppress(OSError):  # another process was faster
                (Path(made) / "pyoco_server-0.5.1" / "tests").rename(home)
    return home


@pytest.mark.parametrize(
    ("module", "name"), [(module, name) for module, names in _TESTS.items() for name in names]
)
def test_it_passes(tmp_path: Path, old_bin: Path, suite: Path, module: str, name: str) -> None:
    # Its worker hangs now and then (fault 9), and deadlines of its own are short for a busy machine.
    said = [_failure(tmp_path / "1", old_bin, suite, module, name)]
    for number in ("2", "3"):
        if said[-1] is not None:
            said.append(_failure(tmp_path / number, old_bin, suite, module, name))
    assert said[-1] is None, "\n".join(each or "" for each in said)


def _failure(folder: Path, old_bin: Path, suite: Path, module: str, name: str) -> str | None:
    """Run a test; return what it said where it failed."""
    folder.mkdir()
    (folder / "uvicorn.py").write_text(_UVICORN)
    # Some of them start it by this path.
    (folder / ".venv").symlink_to(old_bin.parent, target_is_directory=True)
    environment = {
        **os.environ,
        "PATH": f"{_BIN}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": f"{folder}{os.pathsep}{suite}",
        "PYOCO_LOAD_DOTENV": "0",
        "PYOCO_STATE_DIR": str(folder / "state"),
        # Their wheels are a few bytes that are none.
        "PYOCO_WHEEL_CHECK": "off",
    }
    test = subprocess.Popen(
        [str(old_bin / "python"), "-c", f"import {module}; {module}.{name}()"],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        said, _ = test.communicate(timeout=80)
    except subprocess.TimeoutExpired:
        return f"{name} hangs"
    else:
        return said if test.returncode else None
    finally:
        with suppress(ProcessLookupError):  # what it started and did not end
            os.killpg(test.pid, signal.SIGKILL)
        test.communicate()
