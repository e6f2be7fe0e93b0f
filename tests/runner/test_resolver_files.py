"""Flow resolvers that are files: what lies beside them, and processes that their flows start."""

from __future__ import annotations

from pathlib import Path

import pytest

from pyoco_server.model.run import RunStatus
from pyoco_server.worker.runner.options import RunnerOptions
from pyoco_server.worker.runner.resolver import FlowResolverError, check_flow_resolver
from runner.children import Flows, a_child

RESOLVER = """\
from dataclasses import dataclass
from multiprocessing import get_context
from concurrent.futures import ProcessPoolExecutor

from pyoco.core.models import Flow, Task

import beside
from package_beside.deep import triple


@dataclass
class Pair:
    left: int
    right: "int"


def square(n):
    return n * n


def add(pair):
    return pair.left + pair.right


def pool(ctx):
    with get_context(ctx.params["method"]).Pool(1) as pool:
        return [
            *pool.map_async(square, [2, 3]).get(30),
            *pool.map_async(add, [Pair(1, 2)]).get(30),
            pool.apply_async(beside.double, (4,)).get(30),
        ]


def futures(ctx):
    with ProcessPoolExecutor(1, mp_context=get_context(ctx.params["method"])) as pool:
        return [pool.submit(square, 3).result(30), pool.submit(triple, 3).result(30)]


def resolve(name):
    flow = Flow(name=name)
    flow.add_task(Task(func=globals()[name], name="task"))
    return flow
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    folder = tmp_path / "flows of ours"
    (folder / "package_beside").mkdir(parents=True)
    (folder / "beside.py").write_text("def double(n):\n    return 2 * n\n")
    (folder / "package_beside" / "deep.py").write_text("def triple(n):\n    return 3 * n\n")
    return folder


@pytest.mark.parametrize("name", ["our_flows.py", "our-flows.py"])
async def test_functions_of_the_file_and_beside_it_are_found_by_spawned_processes(
    place: Path, name: str
) -> None:
    (place / name).write_text(RESOLVER)
    spec = f"{place / name}:resolve"
    async with a_child(RunnerOptions(flow_resolver=spec)) as runner:
        flows = Flows(runner)
        for flow, method, output in (
            ("pool", "spawn", [4, 9, 3, 8]),
            ("futures", "forkserver", [9, 9]),
        ):
            told = await flows.run_yaml(None, flow_name=flow, params={"method": method})
            assert told.finished.status is RunStatus.COMPLETED, told.finished.error
            assert told.finished.task_records["task"].output == output


@pytest.mark.parametrize("name", ["queue.py", "some.flows.py", "msgspec.py"])
async def test_a_file_whose_name_is_taken_is_loaded_all_the_same(place: Path, name: str) -> None:
    (place / name).write_text(RESOLVER)
    async with a_child(RunnerOptions(flow_resolver=f"{place / name}:resolve")) as runner:
        told = await Flows(runner).run_yaml(None, flow_name="futures", params={"method": "fork"})
        assert told.finished.task_records["task"].output == [9, 9], told.finished.error


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("import sys; sys.exit(0)", "SystemExit: 0"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("import os; os._exit(0)", "ended the process that loads it, with 0"),
    ],
)
async def test_a_resolver_that_ends_its_process_is_told(place: Path, code: str, why: str) -> None:
    (place / "ends.py").write_text(f"{code}\n")
    with pytest.raises(FlowResolverError, match=why):
        check_flow_resolver(f"{place / 'ends.py'}:resolve")


async def test_a_resolver_that_raises_what_ends_a_program_fails_only_its_runs(place: Path) -> None:
    (place / "ends.py").write_text("raise SystemExit(0)\n")
    async with a_child(RunnerOptions(flow_resolver=f"{place / 'ends.py'}:resolve")) as runner:
        told = await Flows(runner).run_yaml(None, flow_name="any")
        assert "SystemExit: 0" in (told.finished.error or "")
