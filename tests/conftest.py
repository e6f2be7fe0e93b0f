"""Fixtures for all tests."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import structlog
import trio
from hypothesis import settings

from nats_fixtures import Node, node_in
from pyoco_server.scenario.versions import cache_folder, commands_of

# A shell starts what runs in the background with SIGINT ignored, and so would be each program that a test
# starts and ends by Ctrl-C.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The tests start hundreds of programs. Where bytecode may not be written, each compiles anew all that it
# imports, which takes longer than the rest of its start.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# How long an example takes says how busy the machine is.
settings.register_profile("busy machine", settings(), deadline=None)
settings.load_profile("busy machine")


# Half of the work of a test is to note which lines run. These take long, or measure how long something
# takes, and kill much of what they start: hardly a line is told by them that is not told by others.
WITHOUT_COVERAGE = frozenset(
    [
        "benchmarks",
        "costs",
        "dashboard",
        "docs",
        "drills",
        "e2e",
        "faults",
        "isolation",
        "test_cluster",
        "test_life_interleavings",
        "test_scenarios",
        "test_schemathesis",
        "test_script",
        "test_suite_of_051",
    ]
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Have the slow modules come early, so that none is left to one worker alone at the end."""
    slow, places = set(), dict[Path, int]()
    for place, item in enumerate(items):
        places.setdefault(item.path, place)
        if item.get_closest_marker("slow"):
            slow.add(item.path)
    items.sort(key=lambda item: places[item.path] * (0.6 if item.path in slow else 1))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Trace neither a test without coverage nor the processes that it starts.

    The marker ``no_cover`` would pause one of two: coverage begins in a worker of pytest-xdist as in any
    process, and pytest-cov begins there once more.
    """
    measured = "COVERAGE_PROCESS_CONFIG"
    if measured not in os.environ or WITHOUT_COVERAGE.isdisjoint(
        {item.path.parent.name, item.path.stem}
    ):
        return (yield)
    config, here, in_threads = os.environ.pop(measured), sys.gettrace(), threading.gettrace()
    sys.settrace(None)
    threading.settrace(None)
    try:
        return (yield)
    finally:
        threading.settrace(in_threads)
        sys.settrace(here)
        os.environ[measured] = config


@pytest.fixture(autouse=True)
def logging_of_its_own() -> None:
    """What others configured is of no account: commands in this process set the level of log lines."""
    structlog.reset_defaults()


@pytest.fixture
async def nats_node(tmp_path: Path) -> AsyncIterator[Node]:
    """A NATS node of the test's own, on a free port."""
    async with node_in(tmp_path / "nats") as node:
        yield node


@pytest.fixture(scope="session")
def old_bin() -> Path:
    """The commands of pyoco-server 0.5.1."""
    return trio.run(commands_of, "0.5.1", cache_folder())


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-screenshots",
        action="store_true",
        help="write the dashboard's pictures to docs/images instead of a temporary folder",
    )
