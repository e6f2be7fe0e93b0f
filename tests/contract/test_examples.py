"""Every method of the Python client has an example that runs and prints what it says."""

from __future__ import annotations

import contextlib
import inspect
import io
import itertools
import re
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import aclosing, closing
from typing import Any

import pytest
import trio

from contract.test_client_routes import methods
from e2e.programs import Stage, open_stage, wait_for
from pyoco_server.client import AsyncPyocoHttpClient, HttpProblem, PyocoHttpClient
from wheels.making import file_name, wheel_bytes

pytestmark = [pytest.mark.slow, pytest.mark.nats]

FLOW = """\
flow: {graph: add_one >> save, defaults: {x: 1}}
tasks:
  add_one: {callable: "example_tasks:add_one"}
  save: {callable: "example_tasks:save"}
"""
TASKS = """\
def add_one(x):
    return x + 1


def save(ctx, add_one):
    ctx.save_artifact("report.txt", str(add_one))
    print("saved")


def fail():
    raise ValueError("bad luck")
"""
FAILING = 'flow: {graph: fail}\ntasks: {fail: {callable: "example_tasks:fail"}}\n'
# A version that was there once does not come back.
VERSIONS = itertools.count(1)
NIGHTLY: dict[str, Any] = {"flow_name": "report", "cron": "30 2 * * *", "timezone": "Asia/Tokyo"}


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with open_stage(tmp_path_factory.mktemp("examples")) as stage:
        (stage.folder / "example_tasks.py").write_text(TASKS)
        stage.nats()
        stage.gateway()
        stage.worker("--slots", "1")
        yield stage


class Setting:
    """What the examples take as given, made anew for each of those that change it."""

    def __init__(self, stage: Stage, client: PyocoHttpClient) -> None:
        self._stage = stage
        self._client = client
        wait_for(client.get_workers, what="the worker")
        self._ended = self._run()
        wait_for(self._all_is_told, what="the events and results of the run")

    def of(self, method: str) -> dict[str, Any]:
        """The names that the example of a method may use."""
        names: dict[str, Any] = {"run_id": self._ended, "flow_yaml": FLOW}
        if method in {"cancel_run", "reschedule_run"}:
            names["run_id"] = self._client.submit_run("report", tag="nobody")["run_id"]
        if "dead_letter" in method or method == "find_runs":
            names["seq"] = self._letter()
        if "wheel" in method:
            names["wheel_name"] = self._wheel(there=method != "upload_wheel")
        self._schedule(there=method != "create_schedule")
        self._client.order_worker("w1", "resume")
        self._client.patch_worker_hidden("w1", hidden=False)
        return names

    def _run(self) -> str:
        run_id = self._client.submit_run_yaml(FLOW, tag="hello")["run_id"]
        self._stage.ended(run_id)
        return str(run_id)

    def _all_is_told(self) -> bool:
        events = self._client.events(self._ended, types=["task"])
        tasks = [event["state"] for event in events if event["type"] == "task"]
        kept = self._client.list_results(self._ended)["results"]
        printed = [*self._client.logs(self._ended)]
        return tasks.count("SUCCEEDED") == 2 and len(kept) == 2 and bool(printed)

    def _letter(self) -> int:
        run_id = self._client.submit_run_yaml(FAILING, tag="hello")["run_id"]
        letters = wait_for(
            lambda: self._client.list_dead_letters(run_id=run_id)["items"], what="a dead letter"
        )
        return int(letters[0]["seq"])

    def _wheel(self, *, there: bool) -> str:
        version = str(next(VERSIONS))
        name, data = file_name("examples", version), wheel_bytes("examples", version)
        (self._stage.folder / name).write_bytes(data)
        if there:
            self._client.upload_wheel(filename=name, data=data, tags=["nobody"])
        return name

    def _schedule(self, *, there: bool) -> None:
        with contextlib.suppress(HttpProblem):
            self._client.delete_schedule("nightly")
        if there:
            self._client.create_schedule("nightly", **NIGHTLY)


def example_of(method: Callable[..., Any]) -> str:
    """The code of the example in a docstring; empty for none."""
    _, _, example = (inspect.getdoc(method) or "").partition("Example::\n")
    return textwrap.dedent(example).strip()


def promised(example: str) -> list[str]:
    return re.findall(r"print\(.*\)  # (.*)$", example, re.MULTILINE)


@pytest.mark.parametrize("client", [PyocoHttpClient, AsyncPyocoHttpClient])
def test_every_method_has_a_short_one(client: type) -> None:
    for name, method in {**methods(client), "close": client.close}.items():  # type: ignore[attr-defined]
        lines = example_of(method).splitlines()
        assert 1 <= len(lines) <= 5, name


@pytest.mark.parametrize("kind", [PyocoHttpClient, AsyncPyocoHttpClient])
def test_they_run(stage: Stage, kind: type, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(stage.folder)
    given = {"time": time, "aclosing": aclosing, "closing": closing}
    printed: dict[str, list[str]] = {}
    examples = {name: example_of(method) for name, method in methods(kind).items()}
    with PyocoHttpClient(stage.url) as helper:
        setting = Setting(stage, helper)

        async def all_of_them() -> None:
            async with AsyncPyocoHttpClient(stage.url) as client:
                for name, example in examples.items():
                    names = {**given, **setting.of(name), "client": client}
                    exec(f"async def example():\n{textwrap.indent(example, '    ')}", names)
                    with contextlib.redirect_stdout(io.StringIO()) as said:
                        await names["example"]()
                    printed[name] = said.getvalue().splitlines()

        if kind is AsyncPyocoHttpClient:
            trio.run(all_of_them)
        else:
            for name, example in examples.items():
                with contextlib.redirect_stdout(io.StringIO()) as said:
                    exec(example, {**given, **setting.of(name), "client": helper})
                printed[name] = said.getvalue().splitlines()
    wanted = {name: lines for name, each in examples.items() if (lines := promised(each))}
    assert {name: printed[name] for name in wanted} == wanted
