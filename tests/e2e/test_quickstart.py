"""The ways in: the demo, the public page's quickstart, the embedded backend."""

from __future__ import annotations

import socket
import subprocess

import pytest

from e2e.programs import BIN, FLOW_YAML, HTTP, Stage, alive, descendants, last_json, wait_for


def test_the_demo_ends_with_a_completed_run_and_leaves_nothing(stage: Stage) -> None:
    stage.env["COLUMNS"] = "80"
    demo = stage.start("pyoco-server", "demo")
    family = wait_for(lambda: len(descendants(demo.pid)) > 1 and descendants(demo.pid))
    assert demo.wait() == 0, demo.text()
    assert "COMPLETED" in demo.text()
    # Whatever its length, a result is one line for who greps it.
    result = "warmest in Naha (24.6 °C), coldest in Sapporo (8.3 °C), 14.3 °C on average."
    assert f"bulletin → 2024-04-01: {result}" in demo.text()
    wait_for(lambda: not any(map(alive, family)), within=60)
    assert not (stage.folder / ".pyoco").exists()


def test_params_go_over_the_defaults_of_a_file_that_is_run_here(stage: Stage) -> None:
    (stage.folder / "flow.yaml").write_text(FLOW_YAML)
    ports = ("--port", str(stage.http_port), "--nats-port", str(stage.nats_port))
    refused = stage.start("pyoco-server", "dev", "--param", "x=5")
    assert refused.wait() == 1
    assert "params are those of a flow.yaml" in refused.text()
    program = stage.start("pyoco-server", "dev", *ports, "flow.yaml", "--param", "x=5")
    wait_for(lambda: "v=6" in program.text())
    # Its store is its own, also where a free port would be found.
    second = stage.start("pyoco-server", "dev")
    assert second.wait() == 1
    assert f".pyoco/nats is in use by process {program.pid} (pyoco-server dev" in second.text()
    assert "hint: stop it, or choose another folder" in second.text()


def test_the_quickstart_of_the_public_page_works_word_for_word(stage: Stage) -> None:
    (stage.folder / "flow.yaml").write_text(FLOW_YAML)
    up = stage.start(
        *[
            "pyoco-server",
            "up",
            "--with-nats-bootstrap",
            "--host",
            "127.0.0.1",
            "--dashboard-lang",
            "auto",
        ],
        *("--port", str(stage.http_port), "--nats-client-port", str(stage.nats_port)),
        *("--nats-http-port", "0"),
    )
    wait_for(stage.ready)
    stage.start(*f"pyoco-worker --nats-url {stage.nats_url} --tags hello --worker-id w1".split())
    said = stage.run(
        *f"pyoco-client --server {stage.url} submit-yaml --workflow-file flow.yaml".split(),
        *["--flow-name", "main", "--tag", "hello"],
    )
    run_id = last_json(said)["run_id"]
    watched = stage.run(
        *f"pyoco-client --server {stage.url} watch {run_id} --until-terminal".split(),
        *["--output", "status"],
    )
    fields = watched.strip().splitlines()[-1].split("\t")
    assert fields[1:] == ["snapshot", "COMPLETED", run_id]
    answer = HTTP.get(f"{stage.url}/runs/{run_id}?include=records").json()
    assert answer["task_records"]["to_text"]["output"] == "v=2"
    assert answer["worker_id"] == "w1"
    assert answer["worker_alive"] is True
    # Nothing there yet is no reason for a warning.
    assert "WARN" not in up.text().upper()


def test_a_busy_port_is_named(stage: Stage) -> None:
    stage.nats()
    stage.gateway()
    second = stage.start(
        "pyoco-server", "up", "--port", str(stage.http_port), "--nats-url", stage.nats_url
    )
    assert second.wait() == 1
    assert str(stage.http_port) in second.text()
    assert "ERR-PYOCO-" in second.text()
    assert "Traceback" not in second.text()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_gateway_finds_its_own_node_wherever_that_listens(stage: Stage, host: str) -> None:
    if host == "::1" and not _has_ipv6():
        pytest.skip("no IPv6 here")
    stage.start(
        *("pyoco-server", "up", "--port", str(stage.http_port), "--with-nats-bootstrap"),
        *("--nats-listen-host", host, "--nats-client-port", "0", "--nats-http-port", "0"),
    )
    wait_for(stage.ready, what="a ready gateway")


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


def test_a_foreign_nats_url_is_refused_with_bootstrap(stage: Stage) -> None:
    done = subprocess.run(
        [
            str(BIN / "pyoco-server"),
            *("--with-nats-bootstrap", "--nats-url", "nats://127.0.0.1:1", "--port", "0"),
        ],
        cwd=stage.folder,
        env=stage.env,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1
    assert "--nats-url mismatch" in done.stderr


def test_a_reader_that_leaves_is_no_crash(stage: Stage) -> None:
    done = subprocess.run(
        f"{BIN}/pyoco-server demo | head -2",
        shell=True,
        cwd=stage.folder,
        env=stage.env,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "all up" in done.stdout
    assert "Traceback" not in done.stderr
