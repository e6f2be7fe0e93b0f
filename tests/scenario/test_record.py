"""A live cancel storm, recorded and replayed ten times as fast: the same ends, the same counts."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest
import trio

from backend.stage import running
from http_api.seeding import snapshot
from pyoco_cli.server import main
from pyoco_server.jetstream.keyvalue import KeyValue
from pyoco_server.model.flow.file import parse_flow_yaml
from pyoco_server.model.json_text import encode_json
from pyoco_server.model.run import RunStatus
from pyoco_server.model.worker import WorkerRecord, WorkerState, encode_worker
from pyoco_server.scenario import document, recorder, replay
from pyoco_server.scenario.document import (
    Scenario,
    ScenarioError,
    parse_scenario,
    read_scenario,
    write_scenario,
)
from pyoco_server.scenario.history import PROBE
from pyoco_server.scenario.performance import ScenarioResult, perform
from pyoco_server.scenario.recording import RecordedRun, RecordedState
from pyoco_server.scenario.stage import Stage
from pyoco_server.scenario.steps import Submit

HISTORIES = Path(__file__).parents[2] / "scenarios" / "histories"
STORM = """
name: live
about: A cancel storm to record.
cast:
  workers: [{id: w1, slots: 2}, {id: w2, slots: 1}]
steps:
  - parallel:
      - - submit: {flow: slow, count: 20, rate: 20, params: {seconds: 0.3}}
      - - submit: {flow: failing, count: 2}
      - - publish: {text: "not a job"}
      - - wait_for: slow
        - cancel: {group: slow, share: 0.5, spread_sec: 0.5}
        - cancel: {group: slow, share: 0.5, spread_sec: 0.5}
  - submit: {flow: slow, count: 2, group: long, params: {seconds: 60}}
  - wait_for: long
  - cancel: {group: long}
  - expect: {invariants: [I1, I2, I3, I5, I7]}
"""


async def performed(scenario: Scenario, folder: Path, *, speed: float = 1.0) -> ScenarioResult:
    return await perform(scenario, folder, cache=folder / "cache", speed=speed)


def ends(verdict: ScenarioResult) -> Counter[str]:
    history = verdict.history
    lasts = [history.last(run.run_id) for run in history.accepted.values() if run.group != PROBE]
    return Counter(last.status.value for last in lasts if last is not None)


async def recorded_live(folder: Path, out: Path, *options: str) -> ScenarioResult:
    """Play the storm; record it with the command as soon as it is over, and everybody still there."""

    async def record(stage: Stage) -> None:
        config = (folder / "n1" / "nats-server.conf").read_text().split()
        url = f"nats://127.0.0.1:{config[config.index('port:') + 1]}"
        command = [str(Path(sys.executable).with_name("pyoco-server")), "scenario", "record"]
        done = await trio.run_process(
            [*command, "--out", str(out), "--nats-url", url, *options],
            check=False,
            capture_stdout=True,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYOCO_LOAD_DOTENV": "0"},
        )
        assert done.returncode == 0, done.stdout.decode()
        assert all(program.running for program in stage.programs.values())

    cache = folder / "cache"
    return await perform(parse_scenario(STORM), folder, cache=cache, at_end=record)


@pytest.mark.slow
async def test_a_recorded_cancel_storm_replays_ten_times_as_fast(tmp_path: Path) -> None:
    out = tmp_path / "incident.yaml"
    live = await recorded_live(tmp_path / "live", out)
    assert live.passed, live.unmet
    scenario = read_scenario(out)
    assert [part.id for part in scenario.cast.workers] == ["w1", "w2"]
    replayed = await performed(scenario, tmp_path / "replayed", speed=10)
    assert replayed.passed, replayed.unmet
    assert ends(replayed) == ends(live)
    assert ends(live)["CANCELLED"] >= 2
    assert ends(live).total() == 24


async def test_a_worker_is_called_alike_in_the_cast_its_moves_and_the_states_of_runs(
    tmp_path: Path,
) -> None:
    worker = WorkerRecord(
        worker_id="host.example-1",
        instance_id="i1",
        state=WorkerState.STOPPED_GRACEFUL,
        last_seen_at=time.time(),
        updated_at=time.time(),
    )
    async with running(tmp_path, worker=False) as backend:
        for bucket, key, value in (
            ("pyoco_workers", worker.worker_id, encode_worker(worker)),
            ("pyoco_runs", "r1", encode_json(snapshot("r1", worker_id=worker.worker_id))),
        ):
            await KeyValue(backend.connection, bucket).put(key, value)
        scenario = await recorder.record(
            backend.connection, backend.settings, since=0, now=time.time(), redact=False
        )
    replay = scenario.steps[0].replay
    assert replay is not None
    [run] = replay.runs
    assert [part.id for part in scenario.cast.workers] == ["host_example-1"]
    assert [move.id for move in replay.workers] == ["host_example-1"]
    assert {state.worker for state in run.states} == {None, "host_example-1"}


@pytest.mark.slow
async def test_a_redacted_recording_has_no_params(tmp_path: Path) -> None:
    out = tmp_path / "incident.yaml"
    await recorded_live(tmp_path / "live", out, "--redact", "--last", "1h")
    replay = read_scenario(out).steps[0].replay
    assert replay is not None
    seen = {value for run in replay.runs for value in run.params.values()}
    assert seen == {"redacted"}
    assert "not a job" not in out.read_text()


def test_a_recording_is_not_written_over_a_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What it was made of may be gone from the system by then. NATS is not asked."""
    out = tmp_path / "incident.yaml"
    out.write_text("name: the last one\n")
    argv = ["scenario", "record", "--out", str(out), "--nats-url", "nats://127.0.0.1:1"]
    assert main(argv) == 1
    assert f"{out} exists" in capsys.readouterr().err
    assert out.read_text() == "name: the last one\n"


@pytest.mark.slow
@pytest.mark.parametrize("path", sorted(HISTORIES.glob("*.yaml")), ids=lambda path: path.stem)
async def test_a_kept_history_replays(path: Path, tmp_path: Path) -> None:
    verdict = await performed(read_scenario(path), tmp_path / "stage", speed=10)
    assert verdict.passed, verdict.unmet


@pytest.mark.parametrize(
    "path", sorted((HISTORIES / "broken").glob("*.yaml")), ids=lambda path: path.stem
)
@pytest.mark.slow
async def test_a_history_that_broke_an_invariant_fails(path: Path, tmp_path: Path) -> None:
    scenario = read_scenario(path)
    assert scenario.twin is None
    verdict = await performed(scenario, tmp_path / "stage", speed=10)
    assert any("recorded I" in text for text in verdict.unmet), verdict.unmet


def test_a_recording_survives_being_written_and_read() -> None:
    scenario = parse_scenario(STORM)
    assert parse_scenario(write_scenario(scenario)) == scenario


def test_a_recording_that_nobody_could_read_is_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    scenario = parse_scenario(STORM)
    text = write_scenario(scenario)
    most = document._nodes(msgspec.to_builtins(scenario))
    monkeypatch.setattr(document, "_MOST_NODES", most)
    assert parse_scenario(write_scenario(scenario)) == scenario
    monkeypatch.setattr(document, "_MOST_NODES", most - 1)
    with pytest.raises(ScenarioError, match="a shorter --last"):
        write_scenario(scenario)
    with pytest.raises(ScenarioError, match=f"more than {most - 1} keys and values"):
        parse_scenario(text)


async def test_a_run_of_more_params_than_a_flow_takes_is_replayed() -> None:
    state = RecordedState(at=0.0, status=RunStatus.PENDING)
    params = {"rows": list(range(20_000))}
    run = RecordedRun(run="r", flow="f", tag="hello", params=params, states=[state])
    sent: list[str] = []

    class Clients:
        async def accepted(self, step: Submit, group: str, text: str) -> None:
            sent.append(text)

    async def until(at: float) -> None:
        assert at == 0.0

    play = SimpleNamespace(scenario=parse_scenario(STORM), speed=1.0, until=until)
    await replay._run(cast("Any", play), cast("Any", Clients()), run, {})
    file = parse_flow_yaml(sent[0].encode(), max_bytes=1024 * 1024)
    assert file.defaults == {"replayed_plan": [[0.0, "wait"]]}


def test_a_run_without_states_is_refused() -> None:
    with pytest.raises(ScenarioError, match="states"):
        parse_scenario(
            "name: x\nabout: y\nsteps: [{replay: {runs: [{run: a, flow: f, tag: t, states: []}]}}]"
        )
