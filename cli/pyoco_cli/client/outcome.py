"""How a run that was waited for ended, as the exit code: 0 COMPLETED, 1 FAILED, 2 CANCELLED, 124 not yet."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from pyoco_cli.common.errors import CliError
from pyoco_cli.common.language import Phrase
from pyoco_server.model.errors import ErrorId

if TYPE_CHECKING:
    from pyoco_server.client import PyocoHttpClient
    from pyoco_server.client.answers import RunDict

CANCELLED: Final = 2
TIMED_OUT: Final = 124
"""As `timeout` of coreutils has it."""

ENDED = frozenset({"COMPLETED", "FAILED", "CANCELLED"})


class Followed:
    """The events of a run as they come, and the last snapshot among them.

    Attributes:
        snapshot: That one; empty before the first.
        count: How many events there were.
    """

    def __init__(self, events: Iterable[dict[str, Any]]) -> None:
        self._events = events
        self.snapshot: dict[str, Any] = {}
        self.count = 0

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for event in self._events:
            self.count += 1
            self.snapshot = (event.get("data") or {}).get("snapshot") or self.snapshot
            yield event


@contextmanager
def leaving(run_id: str) -> Iterator[None]:
    """Say that the run goes on when Ctrl-C ends what only looks at it."""
    try:
        yield
    except KeyboardInterrupt:
        sys.stderr.write(f"- hint: {Phrase.RUN_GOES_ON.fill(run_id=run_id)}\n")
        raise


def wait_for_end(client: PyocoHttpClient, run_id: str, seconds: float | None) -> RunDict:
    """Wait for the end of a run, at most ``seconds``; return its snapshot, with task records."""
    try:
        return client.wait_run(run_id, within_seconds=seconds)
    except TimeoutError:
        return client.get_run_with_records(run_id)


def exit_code(run_id: str, snapshot: Mapping[str, Any], seconds: float | None) -> int:
    """Return the exit code of a run that COMPLETED.

    Args:
        run_id: The run.
        snapshot: The last that was seen of it.
        seconds: How long it was waited for.

    Raises:
        CliError: It came to another end, or to none; the error has the exit code.
    """
    match snapshot.get("status"):
        case "COMPLETED":
            return 0
        case "FAILED" | "CANCELLED" as status:
            error = snapshot.get("error")
            raise CliError(
                f"run {run_id} ended {status}" + (f": {error}" if error else ""),
                title=Phrase.WAS_CANCELLED if status == "CANCELLED" else None,
                hint=Phrase.SEE_TASKS.fill(run_id=run_id),
                code=CANCELLED if status == "CANCELLED" else 1,
                error_id=ErrorId.EXECUTION_FAILED,
            )
        case status:
            after = "" if seconds is None else f" after {seconds:g} s"
            raise CliError(
                f"run {run_id} is {status or 'not seen'}{after}",
                title=Phrase.WAIT_TIMEOUT,
                hint=Phrase.RUN_GOES_ON.fill(run_id=run_id),
                code=TIMED_OUT,
                error_id="ERR-PYOCO-WAIT",
            )
