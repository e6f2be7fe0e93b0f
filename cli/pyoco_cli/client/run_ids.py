"""Run ids as people give them: whole, or as much of the beginning as no other run has."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from pyoco_cli.common.errors import CliError
from pyoco_cli.common.language import Phrase

if TYPE_CHECKING:
    from pyoco_server.client import PyocoHttpClient

_WHOLE: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_PAGE: Final = 200
_NAMED: Final = 8
"""How many candidates an error names at most."""


def whole_id(client: PyocoHttpClient, given: str) -> str:
    """Return the id of the run that ``given`` is the beginning of.

    What no run begins with is returned as it is: the gateway says that there is none.

    Raises:
        CliError: Several runs begin so.
    """
    from pyoco_server.model.job import is_run_id  # noqa: PLC0415 - few give less than the whole id

    if _WHOLE.fullmatch(given) or not is_run_id(given):
        return given
    wanted = given.lower()
    candidates: list[Mapping[str, Any]] = []
    cursor: str | None = None
    while len(candidates) <= _NAMED:
        # The text is found anywhere, in flow names and errors as well.
        page = client.find_runs(q=given, limit=_PAGE, cursor=cursor)
        found = [run for run in page["items"] if str(run["run_id"]).lower().startswith(wanted)]
        if any(run["run_id"] == given for run in found):
            return given
        candidates += found
        cursor = page.get("next_cursor")
        if cursor is None:
            break
    match candidates:
        case []:
            return given
        case [only]:
            return str(only["run_id"])
        case _:
            raise _ambiguous(given, candidates)


def _ambiguous(given: str, candidates: list[Mapping[str, Any]]) -> CliError:
    named = [f"{run['run_id']} {run['status']} {run['flow_name']}" for run in candidates[:_NAMED]]
    more = ["…"] if len(candidates) > _NAMED else []
    return CliError(
        f"run id {given} is ambiguous: {', '.join([*named, *more])}", hint=Phrase.MORE_OF_ID
    )
