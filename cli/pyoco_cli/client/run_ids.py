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
# Where the text is common in the names of flows, that may be every run that there is.
_PAGES: Final = 10
_NAMED: Final = 8
"""How many candidates an error names at most."""


def whole_id(client: PyocoHttpClient, given: str) -> str:
    """Return the id of the run that ``given`` is the beginning of.

    What no run begins with is returned as it is: the gateway says that there is none.

    Raises:
        CliError: Several runs begin so, or may do.
    """
    from pyoco_server.model.job import is_run_id  # noqa: PLC0415 - few give less than the whole id

    if _WHOLE.fullmatch(given) or not is_run_id(given):
        return given
    wanted = given.lower()
    candidates: list[Mapping[str, Any]] = []
    cursor: str | None = None
    for _ in range(_PAGES):
        # The text is found anywhere, in flow names and errors as well.
        page = client.find_runs(q=given, limit=_PAGE, cursor=cursor)
        found = [run for run in page["items"] if str(run["run_id"]).lower().startswith(wanted)]
        if any(run["run_id"] == given for run in found):
            return given
        candidates += found
        cursor = page.get("next_cursor")
        if cursor is None or len(candidates) > _NAMED:
            break
    match candidates:
        case []:
            return given
        case [only] if cursor is None:
            return str(only["run_id"])
        case _:
            raise _ambiguous(given, candidates, more=cursor is not None)


def _ambiguous(given: str, candidates: list[Mapping[str, Any]], *, more: bool) -> CliError:
    named = [f"{run['run_id']} {run['status']} {run['flow_name']}" for run in candidates[:_NAMED]]
    rest = ["…"] if more or len(candidates) > _NAMED else []
    return CliError(
        f"run id {given} is ambiguous: {', '.join([*named, *rest])}", hint=Phrase.MORE_OF_ID
    )
