"""`submit --batch-file`: the runs of a file, a thousand a call."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import typer

from pyoco_cli.client.connection import gateway
from pyoco_cli.common.errors import CliError
from pyoco_cli.common.formats import OutputFormat, RowPrinter
from pyoco_cli.common.language import Phrase
from pyoco_cli.common.parameters import read_json, read_text
from pyoco_server.client.requests import new_idempotency_key
from pyoco_server.model.counted import counted
from pyoco_server.model.errors import ErrorId
from pyoco_server.model.json_text import KeyGivenTwice

if TYPE_CHECKING:
    from pyoco_server.client import PyocoHttpClient

# A run, and the number of its line.
_Line: TypeAlias = tuple[int, dict[str, Any]]

_RUNS_A_CALL = 1000
# Of 4 MiB, which a gateway takes where nothing else is set.
_BYTES_A_CALL = 3 * 1024 * 1024
_EXAMPLE = '{"flow_name": "main", "params": {"x": 1}, "tag": "hello"}'


def read_batch(path: Path, defaults: dict[str, Any]) -> list[_Line]:
    """Read the runs of a file of JSON lines, each with the number of its line; empty lines are skipped.

    Args:
        path: The file.
        defaults: Fields for the runs that do not have them.

    Raises:
        CliError: It cannot be read, a line is no JSON object, or there is none.
    """
    runs: list[_Line] = []
    for number, line in enumerate(read_text(path, "--batch-file").split("\n"), 1):
        if not line.strip():
            continue
        try:
            run = read_json(line)
        except KeyGivenTwice as error:
            raise _wrong(f"{path}, line {number}: {error}") from None
        except (ValueError, RecursionError) as error:
            raise _wrong(f"{path}, line {number}: not JSON: {error}") from None
        if not isinstance(run, dict):
            raise _wrong(f"{path}, line {number}: not a JSON object")
        runs.append((number, {**defaults, **run}))
    if not runs:
        raise _wrong(f"{path} holds no run")
    return runs


def submit_batch(
    context: typer.Context,
    runs: list[_Line],
    output: OutputFormat | None,
    idempotency_key: str | None,
) -> int:
    """Submit runs and print the answer to each, with its line: a line of JSON, or of CSV.

    Args:
        context: What the options before the command ask for.
        runs: The runs, each with its line.
        output: What the user asked for.
        idempotency_key: What the keys of runs without one begin with; a new one when ``None``.

    Raises:
        CliError: Some were rejected, or the gateway went away; those that were accepted stay.
    """
    key = idempotency_key or new_idempotency_key()
    rejected: list[str] = []
    printer = RowPrinter(("line", "run_id", "status", "error"), as_csv=output is OutputFormat.CSV)
    for number, run in runs:
        if run.get("idempotency_key") is None:
            run["idempotency_key"] = f"{key}:{number}"
    with _told_how_to_go_on(key), gateway(context) as client:
        for part in _parts(runs):
            for number, item in _answers(client, part):
                printer.print({"line": number, **item})
                if "error" in item:
                    error = item["error"]
                    reason = error.get("reason") or error.get("detail")
                    rejected.append(f"line {number}: {error.get('err_id')}: {reason}")
    if rejected:
        raise CliError(
            f"{len(rejected)} of {counted(len(runs), 'run was', 'runs were')} rejected; "
            f"the first: {rejected[0]}",
            hint=Phrase.SUBMIT_REJECTED.fill(key=key),
            error_id=ErrorId.INVALID_INPUT,
        )
    return 0


def _parts(runs: list[_Line]) -> Iterator[list[_Line]]:
    """The runs in pieces that a gateway takes."""
    part: list[_Line] = []
    size = 0
    for line in runs:
        length = len(json.dumps(line[1]))
        if part and (len(part) == _RUNS_A_CALL or size + length > _BYTES_A_CALL):
            yield part
            part, size = [], 0
        part.append(line)
        size += length
    yield part


def _answers(client: PyocoHttpClient, part: list[_Line]) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """The answer to each run; in smaller pieces where the gateway takes less than it usually does."""
    from pyoco_server.client import HttpProblem  # noqa: PLC0415 - httpx, see connection.py

    try:
        answer = client.submit_batch([run for _, run in part])
    except HttpProblem as problem:
        if problem.status != 413:
            raise
        if len(part) > 1:
            half = len(part) // 2
            yield from _answers(client, part[:half])
            yield from _answers(client, part[half:])
        else:
            error = {"status": 413, "detail": problem.detail, "err_id": problem.err_id}
            yield part[0][0], {"error": error | problem.extra}
        return
    yield from zip((number for number, _ in part), answer["items"], strict=True)


@contextmanager
def _told_how_to_go_on(key: str) -> Iterator[None]:
    """Name the key where something ends a submission of which a part may have been accepted."""
    more = Phrase.SUBMIT_REST.fill(key=key)
    try:
        yield
    except CliError as error:
        error.detail = more if error.detail is None else f"{error.detail}; {more}"
        raise
    except BaseException:  # Ctrl-C, or nobody takes what is printed any more
        with suppress(OSError):
            sys.stderr.write(f"- hint: {more}\n")
        raise


def _wrong(reason: str) -> CliError:
    return CliError(reason, hint=f"a run a line, e.g. {_EXAMPLE}")
