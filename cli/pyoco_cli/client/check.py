"""`check`: what is wrong with a flow.yaml, without a run; and `schema`, for editors."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from pyoco_cli.client.app import OutputFormat, OutputOption, show
from pyoco_cli.client.connection import GatewayAddress, gateway
from pyoco_cli.common.errors import CliError
from pyoco_cli.common.formats import chosen
from pyoco_cli.common.language import Phrase
from pyoco_cli.common.output import print_line, printable

_COLUMNS: Final = ("severity", "line", "column", "path", "reason", "nearest", "source")
_UNPROCESSABLE: Final = (413, 422)


def check(
    context: typer.Context,
    workflow_file: Annotated[Path, typer.Argument(metavar="FILE", help="Path of a flow.yaml.")],
    *,
    server: Annotated[
        str | None,
        typer.Option("--server", metavar="URL", help="Have this gateway look at it instead."),
    ] = None,
    output: OutputOption = None,
) -> int:
    """Say what is wrong with a flow.yaml, each with its line; exits with 1 where a run would fail.

    It is looked at here, or by the gateway that an option names: that one knows its own limits.
    """
    try:
        raw = workflow_file.read_bytes()
    except OSError as error:
        raise CliError(f"failed to read {workflow_file}: {error}", hint=Phrase.CHECK_FILE) from None
    if server is not None:
        given = context.find_root().params  # a profile's key goes to that profile's server only
        context.obj = GatewayAddress(server, given["api_key"], given["api_key_header"])
    asked = server is not None or _names_a_gateway(context)
    findings = _by_gateway(context, raw) if asked else _here(raw)
    wrong = any(finding["severity"] == "error" for finding in findings)
    if chosen(output) is OutputFormat.TABLE:
        for finding in findings:
            _print(workflow_file, finding)
        if not findings:
            print_line(f"{workflow_file}: nothing is wrong")
    else:
        document = {"file": str(workflow_file), "valid": not wrong, "findings": findings}
        show(document, output, items=lambda found: found["findings"], columns=_COLUMNS)
    return int(wrong)


def schema() -> None:
    """Print the JSON Schema of flow.yaml, for editors."""
    text = files("pyoco_cli.server").joinpath("flow.schema.json").read_text(encoding="utf-8")
    print_line(text.rstrip("\n"))


def _names_a_gateway(context: typer.Context) -> bool:
    """Whether an option before the command does; the environment is not meant for a look at a file."""
    before = context.parent
    if before is None:
        return False
    sources = (before.get_parameter_source(name) for name in ("server", "profile"))
    return any(source is not None and source.name == "COMMANDLINE" for source in sources)


def _here(raw: bytes) -> list[Mapping[str, Any]]:
    import msgspec  # noqa: PLC0415 - with the engine's parser, which `--help` does not need

    from pyoco_server.model.flow.check import check_flow_file  # noqa: PLC0415
    from pyoco_server.settings import Settings  # noqa: PLC0415

    most = Settings().workflow_yaml_max_bytes
    found: list[Mapping[str, Any]] = msgspec.to_builtins(
        check_flow_file(raw, max_bytes=most).findings
    )
    return found


def _by_gateway(context: typer.Context, raw: bytes) -> list[Mapping[str, Any]]:
    from pyoco_server.client import HttpProblem  # noqa: PLC0415 - with httpx, see app.py

    with gateway(context) as client:
        try:
            answer = client.check_flow(raw.decode("utf-8", "surrogateescape"))
        except UnicodeEncodeError:
            return _here(raw)
        except HttpProblem as problem:
            if problem.status not in _UNPROCESSABLE:
                raise
            return _told(problem.extra, problem.detail)
    return list(answer.get("findings") or [])


def _told(extra: dict[str, Any], detail: str) -> list[Mapping[str, Any]]:
    """The findings of a refusal; a gateway of an earlier version tells the reason and the line."""
    told = {"reason": extra.get("reason") or detail}
    told |= {name: extra.get(name) for name in ("line", "column")}
    return list(extra.get("findings") or [{"severity": "error", "path": "", **told}])


def _print(path: Path, finding: Mapping[str, Any]) -> None:
    """Print a finding as compilers do: its place, what is wrong, the line, and a mark below it."""
    line, column, source = (finding.get(name) for name in ("line", "column", "source"))
    place = ":".join(str(part) for part in (path, line, column) if part is not None)
    where = f"{finding['path']}: " if finding.get("path") else ""
    meant = f"; did you mean {finding['nearest']!r}?" if finding.get("nearest") else ""
    print_line(printable(f"{place}: {finding['severity']}: {where}{finding['reason']}{meant}"))
    if isinstance(source, str) and isinstance(column, int):
        print_line(f"    {printable(source.replace(chr(9), ' '))}")
        print_line(f"    {' ' * (column - 1)}^")
