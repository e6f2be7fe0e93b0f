"""The deployment files fit the settings and commands that there are, and each other."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from docs.pages import ROOT
from e2e.programs import BIN
from pyoco_cli.server import app as server
from pyoco_cli.worker import app as worker_app
from pyoco_server.settings import Settings, describe

DEPLOY = ROOT / "docs/deploy"
KUBERNETES = sorted((DEPLOY / "kubernetes").glob("*.yaml"))
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
PROGRAMS = {"pyoco-server": server, "pyoco-worker": worker_app}
# What a manager fills in before the command is run.
FILLED = {"$(POD_NAME)": "pod-1", "%H": "n1", "%i": "default", "/opt/pyoco/bin/": ""}


def compose() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    return document


def manifests() -> list[dict[str, Any]]:
    return [each for path in KUBERNETES for each in yaml.safe_load_all(path.read_text())]


def containers() -> Iterator[dict[str, Any]]:
    for each in manifests():
        if each["kind"] in ("Deployment", "StatefulSet"):
            yield from each["spec"]["template"]["spec"]["containers"]


def commands() -> Iterator[list[str]]:
    """Every command line of the files."""
    for service in compose()["services"].values():
        yield service["command"]
    for container in containers():
        yield container["args"]
    for unit in UNITS:
        (line,) = re.findall(r"^ExecStart=(.*)$", unit.read_text(), re.MULTILINE)
        yield shlex.split(line)
    (line,) = re.findall(r"^CMD (.*)$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)
    yield yaml.safe_load(line)


def filled(word: str) -> str:
    for placeholder, value in FILLED.items():
        word = word.replace(placeholder, value)
    return word.replace("/etc/pyoco/nats.conf", str(DEPLOY / "systemd/nats.conf"))


def test_every_command_is_one_of_ours_with_options_that_it_has(tmp_path: Path) -> None:
    (tmp_path / "none.conf").write_text("debug: false\n")
    seen = set()
    for argv in commands():
        program, *words = map(filled, argv)
        seen.add(program)
        if program == "nats-server":
            checking = ["-t"] if "-c" in words else ["-t", "-c", str(tmp_path / "none.conf")]
            checked = subprocess.run(
                [str(BIN / program), *words, *checking], capture_output=True, check=False
            )
            assert checked.returncode == 0, checked.stderr.decode()
            continue
        command = typer.main.get_command(PROGRAMS[program])
        if program == "pyoco-server":
            name, *words = words
            command = command.commands[name]  # type: ignore[attr-defined]
        command.make_context(program, words)
    assert seen == {"nats-server", "pyoco-server", "pyoco-worker"}


def test_every_variable_is_a_setting() -> None:
    known = {row.env for row in describe(Settings)}
    for path in DEPLOY.rglob("*"):
        if path.is_file():
            used = set(re.findall(r"\bPYOCO_[A-Z_]+\b", path.read_text()))
            assert used <= known, path


def environments() -> Iterator[tuple[str, dict[str, str]]]:
    for name, service in compose()["services"].items():
        if "environment" in service:
            yield name, service["environment"]
    lines = (DEPLOY / "systemd/pyoco.env").read_text().splitlines()
    yield "systemd", dict(line.split("=", 1) for line in lines if line[:1] not in ("", "#"))
    kustomization = yaml.safe_load((DEPLOY / "kubernetes/kustomization.yaml").read_text())
    literals = kustomization["configMapGenerator"][0]["literals"]
    yield "kubernetes", dict(literal.split("=", 1) for literal in literals)


def test_every_value_can_be_read_and_means_three_copies_on_three_nodes(tmp_path: Path) -> None:
    for name, values in environments():
        settings = Settings.from_env({**values, "PYOCO_LOAD_DOTENV": "0"}, tmp_path)
        assert settings.jetstream_replicas == 3, name
        assert len(settings.nats_url.split(",")) == 3, name
        if not name.startswith("worker"):
            assert settings.http_auth_mode == "api_key", name


def test_compose_names_what_it_has() -> None:
    document = compose()
    services, volumes = document["services"], document["volumes"]
    nodes = re.findall(r"//([\w-]+):4222", services["gateway-1"]["environment"]["PYOCO_NATS_URL"])
    assert sorted(nodes) == sorted(name for name in services if name.startswith("nats"))
    ids = []
    for name, service in services.items():
        assert {each.split(":")[0] for each in service["volumes"]} <= volumes.keys()
        assert set(service.get("depends_on", [])) <= services.keys()
        command = service["command"]
        if name.startswith("nats"):
            assert command[command.index("-n") + 1] == name
            assert re.findall(r"//([\w-]+):6222", command[-1]) == nodes
        if name.startswith("worker"):
            ids.append(command[command.index("--worker-id") + 1])
            drain = int(service["environment"]["PYOCO_WORKER_DRAIN_TIMEOUT_SEC"])
            assert int(service["stop_grace_period"].rstrip("s")) >= drain + 15
    assert len(ids) == len(set(ids)) == 2
    assert (DEPLOY / document["services"]["nats-1"]["build"]["context"]).resolve() == ROOT


def test_kubernetes_selects_what_it_labels() -> None:
    documents = manifests()
    templates = [
        each["spec"]["template"]
        for each in documents
        if each["kind"] in ("Deployment", "StatefulSet")
    ]
    labels = [template["metadata"]["labels"] for template in templates]
    for each in documents:
        selector = each.get("spec", {}).get("selector")
        if selector:
            wanted = selector.get("matchLabels", selector)
            assert any(wanted.items() <= have.items() for have in labels), each["metadata"]
    kustomization = next(each for each in documents if each["kind"] == "Kustomization")
    names = {path.name for path in KUBERNETES} - {"kustomization.yaml"}
    assert set(kustomization["resources"]) == names
    (generated,) = kustomization["configMapGenerator"]
    for container in containers():
        used = [each["configMapRef"]["name"] for each in container.get("envFrom", [])[:1]]
        assert used in ([], [generated["name"]])


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
def test_kubectl_puts_the_manifests_together() -> None:
    made = subprocess.run(
        ["kubectl", "kustomize", str(DEPLOY / "kubernetes")], capture_output=True, check=True
    )
    kinds = [each["kind"] for each in yaml.safe_load_all(made.stdout)]
    assert sorted(set(kinds)) == [
        *("ConfigMap", "Deployment", "Namespace", "PodDisruptionBudget", "Service", "StatefulSet")
    ]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_takes_the_units(tmp_path: Path) -> None:
    for unit in UNITS:
        text = unit.read_text().replace("/opt/pyoco/bin", str(BIN))
        (tmp_path / unit.name).write_text(text)
    units = [str(tmp_path / unit.name) for unit in UNITS]
    verified = subprocess.run(
        ["systemd-analyze", "verify", *units], capture_output=True, text=True, check=False
    )
    assert (verified.returncode, verified.stderr) == (0, "")


def _has_compose() -> bool:
    if shutil.which("docker") is None:
        return False
    asked = subprocess.run(["docker", "compose", "version"], capture_output=True, check=False)
    return asked.returncode == 0


@pytest.mark.skipif(not _has_compose(), reason="docker compose is not installed")
def test_docker_compose_takes_the_file() -> None:
    subprocess.run(
        ["docker", "compose", "-f", str(DEPLOY / "compose.yaml"), "config", "--quiet"],
        capture_output=True,
        check=True,
    )
