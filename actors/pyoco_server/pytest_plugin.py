"""Fixtures for testing flows against the real thing: a NATS node, a gateway and a worker of the test's own.

Shipped as a pytest plug-in; it needs pytest-trio (``pip install pyoco-server[testing]``). Nothing of the
backend is imported before a test asks for it. Override ``pyoco_settings`` or ``pyoco_worker`` to change what
runs.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trio

# Its names load on first use.
import pyoco_server

if TYPE_CHECKING:
    from pyoco_server.backend import Backend
    from pyoco_server.model.run import RunSnapshot
    from pyoco_server.settings import Settings
    from pyoco_server.worker.runner.protocol import Output
    from pyoco_server.worker.tree import WorkerOptions

_READY_SECONDS = 30.0


class RunFlow:
    """What the fixture ``run_flow`` is.

    Args:
        backend: Where runs are submitted.
        tag: Where they are routed.
    """

    def __init__(self, backend: Backend, tag: str) -> None:
        self._backend = backend
        self._tag = tag

    async def __call__(
        self, flow: str | Path, params: Mapping[str, Any] | None = None, *, within: float = 30.0
    ) -> RunSnapshot:
        """Run a flow to its end and return its snapshot, whatever the end is.

        Args:
            flow: The path of a flow.yaml, or the name of a flow that the worker's resolver knows.
            params: JSON values, over the defaults of the file.
            within: How many seconds it may take.

        Raises:
            TimeoutError: It has not ended by then; the text tells how far it is.
            FlowFileError: The file is not what it should be; the error tells what and where.
            OSError: The file cannot be read.
        """
        if isinstance(flow, Path):
            raw = await trio.Path(flow).read_bytes()
            run = pyoco_server.NewRun.of_flow_file(
                raw, tag=self._tag, flow_name=flow.stem, params=params
            )
        else:
            run = pyoco_server.NewRun(flow, self._tag, params=dict(params or {}))
        accepted = await self._backend.submit(run)
        with trio.move_on_after(within):
            return await self._backend.ended(accepted.run_id)
        now = await self._backend.get(accepted.run_id)
        tasks = ", ".join(f"{name} {state}" for name, state in now.tasks.items()) or "none started"
        raise TimeoutError(
            f"run {now.run_id} of {run.flow_name} is {now.status} after {within:g} s; tasks: {tasks}"
        )


@pytest.fixture
def pyoco_settings(tmp_path: Path) -> Settings:
    """What the backend runs with: the defaults, and a state folder of the test's own."""
    state = tmp_path / "pyoco"
    return pyoco_server.Settings(
        state_dir=str(state), wheel_sync_dir=str(state / "wheels"), worker_drain_timeout_sec=0.0
    )


@pytest.fixture
def pyoco_worker(pyoco_settings: Settings, pytestconfig: pytest.Config) -> WorkerOptions:
    """What the worker is: one slot, tasks imported from the folder of the tests' configuration.

    What tasks print is printed, so that pytest shows it beside a failure.
    """

    def show(output: Output, slot: int) -> None:
        del slot
        print(output.text, end="")  # noqa: T201 - for pytest to capture

    return pyoco_server.WorkerOptions(
        tags=(pyoco_settings.default_tag,),
        worker_id="test",
        slots=1,
        import_paths=(str(pytestconfig.rootpath),),
        output=show,
    )


if find_spec("pytest_trio") is None:

    @pytest.fixture
    def pyoco_backend() -> Backend:  # pyright: ignore[reportRedeclaration] - one of the two
        """Say what is missing."""
        raise pytest.UsageError(
            "pyoco_backend needs pytest-trio: pip install pyoco-server[testing]"
        )

else:
    from pytest_trio import trio_fixture

    @trio_fixture  # type: ignore[untyped-decorator]
    async def pyoco_backend(
        pyoco_settings: Settings, pyoco_worker: WorkerOptions
    ) -> AsyncIterator[Backend]:
        """A backend over a NATS node of its own, ready."""
        async with pyoco_server.open_backend(
            pyoco_settings, nats="embedded", worker=pyoco_worker
        ) as backend:
            await backend.wait_ready(within=_READY_SECONDS)
            yield backend


@pytest.fixture
def run_flow(pyoco_backend: Backend, pyoco_worker: WorkerOptions) -> RunFlow:
    """Call it with a flow.yaml's path or a flow's name: the flow runs to its end (`RunFlow`)."""
    return RunFlow(pyoco_backend, pyoco_worker.tags[0])
