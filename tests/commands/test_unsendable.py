"""What is given to a command and cannot go to the gateway is told, not shown as a fault of ours."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from commands.calling import caught
from pyoco_cli.client import main
from pyoco_cli.client.batch import read_batch
from pyoco_cli.server import main as server
from pyoco_server.client import PyocoHttpClient, UnsendableValue


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (("submit", "--timeout-sec", "inf"), "timeout_sec holds what JSON cannot carry"),
        (("submit", "--cpu-sec", "nan"), "cpu_sec holds what JSON cannot carry"),
        (("submit", "--delay", "inf"), "delay_sec holds what JSON cannot carry"),
        (("submit", "--start-at", "nan"), "start_at holds what JSON cannot carry"),
        (("submit", "--flow-name", "x\udcff"), "flow_name holds what JSON cannot carry"),
        (("schedule", "create", "s", "--at", "nan"), "at holds what JSON cannot carry"),
        (("get", "x\udcff"), "is no text"),
        (("list", "--flow", "x\udcff"), "is no text"),
    ],
)
def test_a_value_that_no_request_can_carry(line: tuple[str, ...], why: str) -> None:
    said = caught(lambda: main(["--server", "http://127.0.0.1:1", *line]))
    assert (said.code, said.out) == (1, "")
    assert said.err.startswith("ERR-PYOCO-0018")
    assert why in said.err


@pytest.mark.parametrize("key", ["secret\n", " secret", "s\u00e9cret", "sec\x7fret"])
@pytest.mark.parametrize(("program", "command"), [(main, "list"), (server, "doctor")])
def test_a_key_that_no_header_can_carry_is_not_printed(
    program: Callable[[list[str]], int], command: str, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYOCO_API_KEY", key)
    said = caught(lambda: program([command]))
    assert (said.code, said.out) == (1, "")
    assert "reason: --api-key (or PYOCO_API_KEY) holds a character" in said.err
    assert "cret" not in said.err


@pytest.mark.parametrize(
    ("option", "value", "why"),
    [
        ("--params", '{"x": {"y": NaN}}', "--params: 'x' holds"),
        ("--param", "x=Infinity", "--param: 'x' holds what JSON can't carry: a number that is NaN"),
        ("--param", "x=\udcff", "--param: 'x' holds what JSON can't carry: half a character"),
        ("--params", "{bad", "property name enclosed in double quotes: line 1 column 2 (char 1)"),
        ("--params", "[" * 100_000, "--params must be valid JSON object: it is nested too deeply"),
    ],
)
def test_a_param_that_json_cannot_carry_is_named(option: str, value: str, why: str) -> None:
    said = caught(lambda: main(["submit", option, value]))
    assert (said.code, said.out) == (1, "")
    assert why in said.err


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('{"fine": 1, "x": [NaN]}', "'x' holds what JSON can't carry: a number that is NaN"),
        ('{"x": "\\udcff"}', "'x' holds what JSON can't carry: half a character ('\\udcff')"),
        ("x: 2026-01-01", "'x' holds what JSON can't carry"),
    ],
)
def test_a_file_of_params_that_json_cannot_carry_is_named(
    tmp_path: Path, text: str, why: str
) -> None:
    file = tmp_path / "params"
    file.write_text(text, encoding="utf-8")
    said = caught(lambda: main(["submit", "--params-file", str(file)]))
    assert (said.code, said.out) == (1, "")
    assert f"--params-file {file}: " in said.err
    assert why in said.err
    assert "submit --param " not in said.err


@pytest.mark.parametrize("value", [float("inf"), "\udcff"])
def test_the_python_client_names_the_field(value: object) -> None:
    wanted = pytest.raises(UnsendableValue, match="params holds what JSON cannot carry")
    with PyocoHttpClient("http://127.0.0.1:1") as client, wanted:
        client.submit_run("main", {"x": [value]}, tag="t")
    with PyocoHttpClient("http://127.0.0.1:1") as client, wanted:
        client.submit_run_yaml("flow: {graph: a}", {"x": [value]})


def test_a_line_of_a_batch_ends_where_the_file_has_one(tmp_path: Path) -> None:
    file = tmp_path / "runs.jsonl"
    file.write_text('{"params": {"x": "a\u2028b\u0085c"}}\r\n\n{"params": {}}\n', encoding="utf-8")
    runs = read_batch(file, {})
    assert runs == [(1, {"params": {"x": "a\u2028b\u0085c"}}), (3, {"params": {}})]


def test_a_wheel_that_cannot_be_unpacked(tmp_path: Path) -> None:
    wheel = tmp_path / "tasks-1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("tasks-1.dist-info/METADATA", "Name: tasks\nVersion: 1\n" * 9)
    raw = bytearray(wheel.read_bytes())
    start = raw.index(b"METADATA") + len(b"METADATA")
    raw[start : start + 8] = b"\xff" * 8
    wheel.write_bytes(raw)
    said = caught(
        lambda: main(["wheel-upload", "--wheel-file", str(wheel), "--preflight", "strict"])
    )
    assert said.code == 1
    assert "wheel file cannot be unpacked" in said.err
