"""The gateway that a command talks to, and what its refusals mean to the user."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import typer

from pyoco_cli.common.commands import without
from pyoco_cli.common.errors import CliError
from pyoco_cli.common.language import Phrase
from pyoco_server.model.errors import ErrorId

if TYPE_CHECKING:
    from pyoco_server.client import HttpProblem, PyocoHttpClient

DEFAULT_SERVER = "http://127.0.0.1:8000"
DEFAULT_HEADER = "X-API-Key"
# What httpx and httpcore import where it is installed: a command of their own, HTTP/2, other event loops.
_UNUSED = ("httpx._main", "h2", "trio", "anyio")
_UNNAMED_PROBLEM = "ERR-PYOCO-HTTP"

# 0.5.1 answers without an error id; its details are part of the contract.
_IDS_OF_DETAILS = {
    "api key required": ErrorId.API_KEY_MISSING,
    "invalid api key": ErrorId.API_KEY_INVALID,
    "run not found": ErrorId.RUN_NOT_FOUND,
    "worker not found": ErrorId.WORKER_NOT_FOUND,
    "wheel not found": ErrorId.WHEEL_NOT_FOUND,
    "workflow too large": ErrorId.WORKFLOW_TOO_LARGE,
    "invalid list query": ErrorId.INVALID_LIST_QUERY,
    "invalid workers request": ErrorId.INVALID_WORKERS_REQUEST,
}
_IDS_OF_STATUSES = {
    409: ErrorId.WHEEL_VERSION_CONFLICT,
    413: ErrorId.INVALID_INPUT,
    422: ErrorId.INVALID_INPUT,
}
_HINTS: dict[str, Phrase] = {
    ErrorId.API_KEY_MISSING: Phrase.GIVE_KEY,
    ErrorId.API_KEY_INVALID: Phrase.CHECK_KEY,
    ErrorId.NOT_ALLOWED: Phrase.KEY_LACKS_ROLE,
    ErrorId.RUN_NOT_FOUND: Phrase.LIST_RUNS,
    ErrorId.SCHEDULE_NOT_FOUND: Phrase.LIST_SCHEDULES,
    ErrorId.SCHEDULE_CONFLICT: Phrase.LIST_SCHEDULES,
    ErrorId.DEAD_LETTER_NOT_FOUND: Phrase.LIST_LETTERS,
    ErrorId.WHEEL_NOT_FOUND: Phrase.LIST_WHEELS,
    ErrorId.WHEEL_VERSION_CONFLICT: Phrase.LIST_WHEELS,
    ErrorId.NATS_UNAVAILABLE: Phrase.NATS_AWAY,
}
# What cannot be done with a run as it is.
_OF_HOW_A_RUN_IS = frozenset({ErrorId.NOT_MOVABLE, ErrorId.NOT_REPEATABLE})
# Of a submission that NATS did not take, or not in time.
_OF_NATS = frozenset({ErrorId.NATS_UNAVAILABLE, ErrorId.ORPHAN_RUN})
# Those whose commands take a key.
_SUBMISSIONS = ("/runs", "/runs/yaml")
_RUN = re.compile(r".*/runs/([^/]+)")
# What a run that is there does not have.
_OF_RUNS: dict[str, Phrase] = {
    "result not found": Phrase.LIST_RESULTS,
    "artifact not found": Phrase.LIST_ARTIFACTS,
}


@dataclass(frozen=True, slots=True)
class GatewayAddress:
    """Where the gateway is, and the key to it."""

    server: str
    api_key: str | None
    api_key_header: str


@contextmanager
def gateway(context: typer.Context) -> Iterator[PyocoHttpClient]:
    """Open the client that the options before the command ask for.

    Raises:
        CliError: Inside of the block something went wrong between client and gateway.
    """
    # Here, because httpx would cost `--help` and every mistyped command half a second.
    with without(*_UNUSED):
        import httpcore  # noqa: F401, PLC0415 - httpx imports it later
        import httpx  # noqa: PLC0415

    from pyoco_server.client import (  # noqa: PLC0415
        HttpProblem,
        PyocoHttpClient,
        UnexpectedAnswer,
        UnsendableValue,
    )

    connection: GatewayAddress = context.obj
    check_key(connection.api_key)
    try:
        client = PyocoHttpClient(
            connection.server,
            api_key=connection.api_key,
            api_key_header=connection.api_key_header,
        )
    except httpx.InvalidURL as error:
        raise _wrong_url(connection, str(error)) from None
    except httpx.ProxyError as error:
        raise CliError(str(error), hint=Phrase.WRONG_PROXY) from None
    except UnicodeEncodeError:
        raise _wrong_key_text("--api-key-header") from None
    with client:
        try:
            yield client
        except HttpProblem as problem:
            raise refusal(problem, context.command_path) from None
        except (httpx.UnsupportedProtocol, httpx.InvalidURL) as error:
            raise _wrong_url(connection, str(error)) from None
        except UnsendableValue as error:
            raise CliError(str(error)) from None
        except UnicodeEncodeError as error:  # of a path or a query
            raise CliError(f"{error.object[:80]!r} is no text: {error.reason}") from None
        except httpx.LocalProtocolError as error:
            raise CliError(str(error), hint=Phrase.WRONG_KEY_TEXT) from None
        except (httpx.HTTPError, UnexpectedAnswer) as error:
            raise CliError(
                f"{connection.server}: {str(error) or type(error).__name__}",
                hint=Phrase.START_GATEWAY,
                error_id=ErrorId.GATEWAY_UNREACHABLE,
            ) from None


def check_key(api_key: str | None) -> None:
    """Look at a key before it is sent: what httpx says of one that cannot be has the key in it.

    Raises:
        CliError: No header can carry it.
    """
    if api_key and not (api_key.isascii() and api_key.isprintable() and api_key == api_key.strip()):
        raise _wrong_key_text("--api-key (or PYOCO_API_KEY)")


def refusal(problem: HttpProblem, command: str) -> CliError:
    """Say what an answer to a command means that is no success."""
    error_id = problem.err_id or _id_of(problem)
    reason = f"HTTP {problem.status} {problem.request.method} {problem.request.url.path}"
    if problem.detail:
        reason = f"{reason}: {problem.detail}"
    more = str(problem.extra.get("reason") or "")
    missing = _OF_RUNS.get(problem.detail)
    return CliError(
        reason,
        title=problem.detail if missing else None,
        detail=more if more and more not in problem.detail else None,
        hint=missing.fill(run_id=str(problem.extra.get("run_id")))
        if missing
        else _hint(error_id, problem, command),
        error_id=error_id,
    )


def _hint(error_id: str, problem: HttpProblem, command: str) -> str | Phrase:
    if error_id in _OF_HOW_A_RUN_IS and (run := _RUN.match(problem.request.url.path)):
        return Phrase.SEE_RUN.fill(run_id=run[1])
    # A key of the client's own, too, which nobody else knows.
    key = problem.request.headers.get("Idempotency-Key")
    if error_id in _OF_NATS and problem.request.url.path.endswith(_SUBMISSIONS) and key:
        return Phrase.SUBMIT_AGAIN.fill(key=key)
    if error_id in _HINTS:
        return _HINTS[error_id]
    # What a gateway refuses it says in whole: nothing is to be looked up at the server.
    refused = 400 <= problem.status < 500 and error_id != _UNNAMED_PROBLEM
    return Phrase.SEE_HELP.fill(command=command) if refused else Phrase.CHECK_REQUEST


def _id_of(problem: HttpProblem) -> str:
    if problem.detail.startswith("nats unavailable"):
        return ErrorId.NATS_UNAVAILABLE
    by_status = _IDS_OF_STATUSES.get(problem.status, _UNNAMED_PROBLEM)
    return _IDS_OF_DETAILS.get(problem.detail, by_status)


def _wrong_key_text(option: str) -> CliError:
    return CliError(
        f"{option} holds a character that no HTTP header can carry", hint=Phrase.WRONG_KEY_TEXT
    )


def _wrong_url(connection: GatewayAddress, why: str) -> CliError:
    return CliError(f"--server is {connection.server!r}: {why}", hint=Phrase.WRONG_URL)
