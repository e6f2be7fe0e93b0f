"""Reading settings from the environment and a ``.env`` file."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any, Final, get_type_hints

import msgspec
from dotenv import dotenv_values
from dotenv.parser import parse_stream

from pyoco_server.settings.readers import FLAG, Reader
from pyoco_server.settings.secrets import FILE_SUFFIX, forget, read_secret

_PREFIX: Final = "PYOCO_"
_NAME: Final = re.compile(rf"{_PREFIX}\w+")
# What commands and task code are told by variables that are no settings of a gateway or worker.
_READ_ELSEWHERE: Final = (
    "PYOCO_API_KEY",
    "PYOCO_DISCOVERY_MODULES",
    "PYOCO_ENV_FILE",
    "PYOCO_LOAD_DOTENV",
    "PYOCO_PROFILE",
    "PYOCO_REQUEST_ID",
    "PYOCO_RUN_ATTEMPT",
    "PYOCO_RUN_ID",
    "PYOCO_SERVER_URL",
)
_ALIKE: Final = 0.8
# Greedy: a password may hold any of the characters that divide a URL.
_USER_INFO: Final = re.compile(r"^(\w+://)?.*@", re.DOTALL)


class SettingsError(ValueError):
    """Variables that cannot be understood, all of them at once.

    Args:
        problems: One sentence for each: the variable, what it held, what it takes.
    """

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("\n".join(problems))


@dataclass(frozen=True, slots=True)
class Env:
    """The declaration of a variable, next to its field's type and default."""

    reader: Reader
    doc: str
    in_file: bool = False
    """Whether it may be a secret that stands in a file instead."""
    name: str = ""
    """Where it is not `PYOCO_` and the field's name in capitals."""


@dataclass(frozen=True, slots=True)
class SettingRow:
    """One variable, as the documentation shows it."""

    env: str
    field: str
    takes: str
    default: str
    doc: str


@cache
def variables_of(settings: type[msgspec.Struct]) -> Mapping[str, Env]:
    """The declared variables of a class of settings, by field."""
    hints = get_type_hints(settings, include_extras=True)
    return {
        field: replace(env, name=env.name or f"{_PREFIX}{field.upper()}")
        for field, hint in hints.items()
        for env in getattr(hint, "__metadata__", ())
        if isinstance(env, Env)
    }


def read_variables(
    settings: type[msgspec.Struct],
    environ: Mapping[str, str] | None,
    cwd: Path | None,
    defaults: Mapping[str, str],
) -> dict[str, Any]:
    """Read what is set, by field; see `Settings.from_env`.

    Raises:
        SettingsError: Variables, or the file, cannot be understood.
    """
    environ = os.environ if environ is None else environ
    problems: list[str] = []
    cwd = cwd or Path.cwd()
    of_file = _read_file(environ, cwd, problems)
    values: dict[str, Any] = {}

    def get(name: str) -> str | None:
        return environ.get(name) or of_file.get(name)

    for field, env in variables_of(settings).items():
        text = get(env.name)
        if env.in_file and not (text or "").strip():
            try:
                text = read_secret(env.name, get, cwd)
            except (OSError, ValueError) as error:
                why = _why_unreadable(error)
                problems.append(f"the file of {env.name}{FILE_SUFFIX} cannot be read ({why})")
                continue
        text = text or defaults.get(env.name) or ""
        if not text.strip():
            continue
        try:
            values[field] = env.reader.read(text if env.reader.secret else text.strip())
        except (ValueError, KeyError):
            problems.append(_problem(env.name, text, env.reader))
    if problems:
        raise SettingsError(problems)
    return values


def misspelt(
    settings: type[msgspec.Struct], environ: Mapping[str, str], cwd: Path
) -> dict[str, str]:
    """Variables that are set and nobody reads, each with the one that was most likely meant.

    One that is like no other is somebody else's: task code may read it.
    """
    declared = [env.name for env in variables_of(settings).values()]
    known = {*declared, *(f"{name}{FILE_SUFFIX}" for name in declared), *_READ_ELSEWHERE}
    short = {name.removeprefix(_PREFIX): name for name in known}
    found = {}
    for name in sorted({*environ, *_read_file(environ, cwd, [])} - known):
        if name.startswith(_PREFIX):
            near = get_close_matches(name.removeprefix(_PREFIX), short, n=1, cutoff=_ALIKE)
            if near:
                found[name] = short[near[0]]
    return found


def check_variable(settings: type[msgspec.Struct], field: str, text: str) -> None:
    """Make sure that a program gave for a field what its variable takes.

    Raises:
        SettingsError: It did not.
    """
    env = variables_of(settings)[field]
    try:
        env.reader.read(text)
    except ValueError:
        raise SettingsError([_problem(env.name, text, env.reader)]) from None


def describe(settings: type[msgspec.Struct]) -> list[SettingRow]:
    """Return every variable of a class of settings, for the documentation."""
    variables = variables_of(settings)
    rows = []
    for field in msgspec.structs.fields(settings):
        env = variables.get(field.name)
        if env is None:
            continue
        match field.default:
            case None:
                default = "unset"
            case bool() as flag:
                default = str(flag).lower()
            case msgspec.NODEFAULT:
                default = "number of cores"
            case float() as number:
                default = f"{number:g}" if number < 1e6 else f"{number:.0f}"
            case other:
                default = str(other)
        rows.append(SettingRow(env.name, field.name, env.reader.takes, default, env.doc))
        if env.in_file:
            doc = f"File that `{env.name}` is read from, where that is not set."
            rows.append(SettingRow(env.name + FILE_SUFFIX, field.name, "a text", "unset", doc))
    return rows


def forget_secrets(settings: type[msgspec.Struct]) -> None:
    """Take what is secret of a class of settings out of the environment of this process, for good."""
    variables = variables_of(settings).values()
    forget(
        {
            env.name: bool if env.reader.secret else _has_user
            for env in variables
            if env.in_file or env.reader.secret
        }
    )


def _read_file(
    environ: Mapping[str, str], cwd: Path, problems: list[str]
) -> Mapping[str, str | None]:
    enabled = environ.get("PYOCO_LOAD_DOTENV", "").strip() or "1"
    try:
        if not FLAG.read(enabled):
            return {}
    except KeyError:
        problems.append(_problem("PYOCO_LOAD_DOTENV", enabled, FLAG))
        return {}
    named = environ.get("PYOCO_ENV_FILE", ".env").strip()
    path = cwd / Path(named).expanduser()
    # As in 0.5.1, an empty name stands for no file at all.
    if not named or ("PYOCO_ENV_FILE" not in environ and not path.is_file()):
        return {}
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        why = _why_unreadable(error)
        problems.append(
            f"PYOCO_ENV_FILE is {named!r}, which cannot be read ({why}); "
            "it takes the path of a text file"
        )
        return {}
    # What follows a mark that nothing ends is not read either.
    problems += [
        f"{', '.join(names)} cannot be read in {named}, line {line.original.line}; it takes "
        "NAME=value, in quotation marks at both ends or at none"
        for line in parse_stream(io.StringIO(text))
        if line.error and (names := dict.fromkeys(_NAME.findall(line.original.string)))
    ]
    return dotenv_values(stream=io.StringIO(text), interpolate=False)


def _why_unreadable(error: OSError | ValueError) -> str:
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return "not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)


def _problem(name: str, text: str, reader: Reader) -> str:
    shown = "a value that is not shown" if reader.secret else repr(without_user(text))
    return f"{name} is {shown}; it takes {reader.takes}"


def _has_user(url: str) -> bool:
    return without_user(url) != url


def without_user(url: str) -> str:
    """Hide the user and password that a URL may carry."""
    return _USER_INFO.sub(r"\1(hidden)@", url)
