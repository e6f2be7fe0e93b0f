"""The commands of the README and the quickstart, run one after the other as they stand there."""

from __future__ import annotations

import re
import shlex
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from docs.pages import ROOT
from e2e.programs import BIN, Program, Stage, last_json, open_stage, wait_for

pytestmark = pytest.mark.slow

QUICKSTART = ROOT / "docs/tutorial/quickstart.md"
# README_ja.md has the same commands as README.md (test_pages.py).
PAGES = ["README.md", "docs/tutorial/quickstart.md", "docs/tutorial/quickstart_ja.md"]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with open_stage(tmp_path) as stage:
        (tmp_path / "flow.yaml").write_text(blocks(QUICKSTART, "yaml")[0])
        for name, text in zip(("flows.py", "run.py"), blocks(QUICKSTART, "python"), strict=True):
            (tmp_path / name).write_text(text)
        stage.env["PYOCO_SERVER_URL"] = stage.url
        yield stage


class Reader:
    """Types what a page says, on ports of its own, and looks whether it does what the page says."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._run_id = "?"
        self._up: list[Program] = []

    def type(self, line: str) -> None:
        stage = self._stage
        line = line.replace("127.0.0.1:8000", f"127.0.0.1:{stage.http_port}")
        line = line.replace("--port 8000", f"--port {stage.http_port}")
        line = line.replace("127.0.0.1:4222", f"127.0.0.1:{stage.nats_port}")
        line = line.replace("<run_id>", self._run_id)
        words = shlex.split(re.sub(r"^.*uv run (--no-dev )?", "", line))
        match words:
            case ["pyoco-server", "init", folder]:
                assert f"cd {folder}\npyoco-server dev flow.yaml" in stage.run(*words)
            case ["cd", folder]:
                stage.folder /= folder
            case ["pytest", *_]:
                # That it runs is shown by whoever reads this: it is what .ci/run does.
                assert "uv run pytest" in (ROOT / ".ci/run").read_text()
            case ["pyoco-server", "demo"]:
                assert "COMPLETED" in stage.run(*words)
            case ["pyoco-server", "dev", *_]:
                self._dev(words)
            case ["pyoco-server", "up", *_]:
                node = ["--nats-client-port", str(stage.nats_port), "--nats-http-port", "0"]
                self._up.append(stage.start(*words, *node))
                wait_for(stage.ready, what="a ready gateway")
            case ["pyoco-worker", *_]:
                self._up.append(stage.start(*words))
            case ["pyoco-client", *_] if "submit-yaml" in words:
                self._run_id = last_json(stage.run(*words))["run_id"]
            case ["pyoco-client", *_] if "watch" in words:
                last = stage.run(*words).strip().splitlines()[-1]
                assert last.split("\t")[1:] == ["snapshot", "COMPLETED", self._run_id]
            case ["pyoco-client", "get", *_]:
                records = last_json(stage.run(*words))["task_records"]
                assert records["to_text"]["output"] == "v=2"
            case ["python", *_]:
                assert stage.run(*words).split() == ["COMPLETED", "42"]
            case _:
                raise AssertionError(f"not known how to look at {line!r}")

    def leave(self) -> None:
        """What was submitted ends; what still runs is asked to stop as a reader would."""
        if self._run_id != "?":
            assert self._stage.ended(self._run_id)["status"] == "COMPLETED"
        for program in reversed(self._up):
            program.send(signal.SIGINT)
            assert program.wait() == 130

    def _edit(self, path: Path, old: str, new: str) -> None:
        """Change a file in one step, as editors do: half a file would be a change of its own."""
        fresh = path.parents[1] / "fresh"
        fresh.write_text(path.read_text().replace(old, new))
        fresh.replace(path)

    def _dev(self, words: list[str]) -> None:
        stage = self._stage
        ports = ["--port", str(stage.http_port), "--nats-port", str(stage.nats_port)]
        dev = stage.start(*words, *ports)
        flow = stage.folder / "flow.yaml"
        if "shout" in flow.read_text():  # what `init` writes
            before, after = ("name: world", "HELLO, WORLD!"), ("name: moon", "HELLO, MOON!")
        else:
            before, after = ("x: 1", "v=2"), ("x: 5", "v=6")
        wait_for(lambda: f"→ {before[1]}" in dev.text(), what="the result")
        self._edit(flow, before[0], after[0])
        wait_for(lambda: f"→ {after[1]}" in dev.text(), what="the result of the changed flow")
        self._edit(flow, after[0], before[0])
        wait_for(lambda: dev.text().count(f"→ {before[1]}") >= 2, what="the first result again")
        dev.send(signal.SIGINT)
        assert dev.wait() == 130
        assert f"dashboard  {stage.url}/" in dev.text()
        assert stage.nats_url in dev.text()


@pytest.mark.parametrize("page", PAGES)
def test_what_a_page_says_works_line_by_line(page: str, stage: Stage) -> None:
    reader = Reader(stage)
    lines = [line for block in blocks(ROOT / page, "console") for line in block.splitlines()]
    assert len(lines) >= 6
    for line in lines:
        reader.type(line)
    reader.leave()


def test_the_commands_are_those_that_are_installed() -> None:
    for name in ("pyoco-server", "pyoco-worker", "pyoco-client", "pyoco-server-admin"):
        assert (BIN / name).exists()
