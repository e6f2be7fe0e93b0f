"""What an option or argument takes that is a number, in words instead of the parser's."""

from __future__ import annotations

import math
from typing import Any

import typer

_WORDS = ("a valid int", "a valid float", "in the range ")


def seconds_option(*, least: float = 0.0, help: str) -> Any:  # noqa: A002 - as Typer has it
    """An option that takes seconds, which are a finite number."""
    return typer.Option(min=least, callback=_finite, help=help)


def _finite(value: float | None) -> float | None:
    if value is not None and not math.isfinite(value):
        raise typer.BadParameter(f"{value} is not a valid float")  # in words of the parser
    return value


def say_what_it_takes(error: typer.TyperException) -> None:
    """Let an error about a number say what would be right: "takes a whole number, 0 to 65535, not 'abc'"."""
    if not isinstance(error, typer.BadParameter):
        return
    given, _, wrong = error.message.rpartition(" is not ")
    if not wrong.startswith(_WORDS):
        return
    kind = getattr(error.param, "type", None)
    whole = "whole " if str(getattr(kind, "name", "")).startswith("int") else ""
    error.message = f"takes a {whole}number{_between(kind)}, not {given}"


def _between(kind: object) -> str:
    match getattr(kind, "min", None), getattr(kind, "max", None):
        case None, None:
            return ""
        case least, None:
            return f", {least:g} or more"
        case None, most:
            return f", {most:g} at most"
        case least, most:
            return f", {least:g} to {most:g}"
