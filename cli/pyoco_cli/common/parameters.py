"""The params of a run, from a file, a JSON text and key=value pairs; the later ones win."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, TypedDict

import typer

from pyoco_cli.common.errors import CliError
from pyoco_cli.common.language import Phrase
from pyoco_server.model.json_text import KeyGivenTwice, each_key_once

_PAIR_EXAMPLE = "pyoco-client submit --param x=1 --param name=alice"
_JSON_EXAMPLE = "pyoco-client submit --flow-name main --params '{\"x\": 1}'"
_FILE_EXAMPLE = 'file example: {"x":1} or x: 1'


class ParamOptions(TypedDict):
    """The params of a run, as `collect_params` takes them."""

    params: Annotated[str | None, typer.Option(help="JSON object, e.g. '{\"x\":1}'.")]
    params_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="File with a JSON or YAML object.")
    ]
    param: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUE", help="One param; may be repeated, wins over the other two."
        ),
    ]


def collect_params(
    params_file: Path | None, params: str | None, param: list[str] | None
) -> dict[str, Any]:
    """Put the params of a run together.

    Raises:
        CliError: One of them cannot be understood, or JSON cannot carry it.
    """
    found: dict[str, Any] = {}
    if params_file is not None:
        given = _of_file(params_file)
        found |= _carried(given, f"--params-file {params_file}", _FILE_EXAMPLE)
    if params is not None:
        found |= _carried(_of_json(params), "--params", _JSON_EXAMPLE)
    return found | _carried(dict(map(_of_pair, param or ())), "--param", _PAIR_EXAMPLE)


def _carried(params: dict[str, Any], option: str, example: str) -> dict[str, Any]:
    """The params of an option, once it is known that JSON can carry each of them."""
    for name, value in params.items():
        try:
            json.dumps({name: value}, allow_nan=False, ensure_ascii=False).encode()
        except (TypeError, ValueError, RecursionError) as error:
            raise CliError(
                f"{option}: {name!r} holds what JSON can't carry: {_why(error)}", hint=example
            ) from None
    return params


def _why(error: Exception) -> str:
    match error:
        case UnicodeEncodeError(object=str(text), start=int(place)):
            return f"half a character ({text[place]!a})"
        case RecursionError():
            return "it is nested too deeply"
        case ValueError() if str(error).startswith("Out of range float"):
            return "a number that is NaN or infinite"
        case _:
            return str(error)


def read_text(path: Path, option: str) -> str:
    """Return the text of the file that ``option`` names.

    Raises:
        CliError: It cannot be read, or is not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CliError(
            f"failed to read {option}: {path} ({error})", hint=Phrase.CHECK_FILE
        ) from None


def write_text(path: Path, text: str, option: str) -> None:
    """Write the file that ``option`` names.

    Raises:
        CliError: It cannot be written.
    """
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise CliError(
            f"failed to write {option}: {path} ({error})", hint=Phrase.CHECK_FILE
        ) from None


def read_json(text: str) -> Any:
    """Return what a JSON text stands for.

    Raises:
        json.JSONDecodeError: It is none.
        KeyGivenTwice: An object of it has a key twice.
        RecursionError: It is nested too deeply.
    """
    return json.loads(text, object_pairs_hook=each_key_once)


def split_tags(text: str | None) -> list[str] | None:
    """Return the tags of a list with commas in between; ``None`` for none at all."""
    tags = [tag.strip() for tag in (text or "").split(",")]
    return [tag for tag in tags if tag] or None


def check_given(option: str, value: object) -> None:
    """Make sure that an option which narrows what a command does is not empty, as an unset variable is.

    Raises:
        CliError: It is.
    """
    if isinstance(value, str) and not value.strip():
        raise CliError(f"{option} is empty", hint=f"leave {option} out, or say which")


def read_tags(text: str | None) -> tuple[str, ...]:
    """Return the tags that a worker takes, of a list with commas in between.

    Raises:
        CliError: One of them is no tag.
    """
    from pyoco_server.model.job import InvalidTag, check_tag  # noqa: PLC0415 - clients need none

    try:
        return tuple(map(check_tag, split_tags(text) or ()))
    except InvalidTag as error:
        raise CliError(f"--tags: {error}", hint="--tags cpu,gpu") from None


def _of_file(path: Path) -> dict[str, Any]:
    text = read_text(path, "--params-file")
    try:
        value: object = read_json(text)
    except KeyGivenTwice as error:
        raise CliError(f"--params-file: {error} ({path})", hint=_FILE_EXAMPLE) from None
    except (json.JSONDecodeError, RecursionError) as json_error:
        value = _of_yaml(text, path, json_error)
    if not isinstance(value, dict):
        raise CliError(
            f"--params-file must contain object at top level ({path})", hint='file example: {"x":1}'
        )
    return value


def _of_yaml(text: str, path: Path, json_error: Exception) -> object:
    # Few commands read YAML.
    import yaml  # noqa: PLC0415

    from pyoco_cli.common.yaml_text import load_yaml  # noqa: PLC0415

    try:
        return load_yaml(text)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise CliError(
            f"--params-file must be JSON/YAML object ({path})",
            detail=" ".join(f"json={json_error}; yaml={error}".split()),
            hint=_FILE_EXAMPLE,
        ) from None


def _of_json(text: str) -> dict[str, Any]:
    try:
        value = read_json(text)
    except KeyGivenTwice as error:
        raise CliError(f"--params: {error}", hint=_JSON_EXAMPLE) from None
    except (json.JSONDecodeError, RecursionError) as error:
        why = f"--params must be valid JSON object: {_why(error)}"
        raise CliError(why, hint=_JSON_EXAMPLE) from None
    if not isinstance(value, dict):
        raise CliError("--params must be JSON object", hint=_JSON_EXAMPLE)
    return value


def _of_pair(pair: str) -> tuple[str, Any]:
    key, equals, text = pair.partition("=")
    key, text = key.strip(), text.strip()
    if not equals:
        raise CliError(f"--param must be key=value ({pair!r})", hint=_PAIR_EXAMPLE)
    if not key:
        raise CliError(f"--param key is empty ({pair!r})", hint="pyoco-client submit --param x=1")
    try:
        return key, read_json(text)
    except KeyGivenTwice as error:
        raise CliError(f"--param {key}: {error}", hint=_PAIR_EXAMPLE) from None
    except (json.JSONDecodeError, RecursionError):
        return key, text
