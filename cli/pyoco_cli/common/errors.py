"""How a command ends: its exit code, and what the user is told when something is wrong.

Exit codes: 0 done; 1 the user can mend it; 130 Ctrl-C. Commands that wait for a run have more of them
(`client/outcome.py`).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from io import TextIOWrapper
from pathlib import Path
from typing import Any

import typer

from pyoco_cli.common.language import Phrase, title_of
from pyoco_cli.common.numbers import say_what_it_takes
from pyoco_server.model.errors import ErrorId

INTERRUPTED = 130


class CliError(Exception):
    """Something that the user can mend.

    Args:
        reason: What is wrong, and where.
        error_id: Its id, an ``ErrorId`` where there is one.
        detail: More about it, where one line is not enough.
        usage: How the command is called.
        hint: What would be right.
        title: What the first line says; that of the id when ``None``.
        code: The exit code.
    """

    def __init__(
        self,
        reason: str,
        *,
        error_id: str = ErrorId.INVALID_COMMAND_LINE,
        detail: str | None = None,
        usage: str | None = None,
        hint: str | Phrase | None = None,
        title: str | Phrase | None = None,
        code: int = 1,
    ) -> None:
        super().__init__(reason)
        self.code = code
        self.error_id = error_id
        self.reason = reason
        self.detail = detail
        self.usage = usage
        self.hint = None if hint is None else str(hint)
        self.title = title_of(error_id) if title is None else str(title)

    def __str__(self) -> str:
        """Return the lines that the user gets."""
        lines = [f"{self.error_id!s}: {self.title}"]
        fields = (
            ("reason", self.reason),
            ("detail", self.detail),
            ("usage", self.usage),
            ("hint", self.hint),
        )
        lines += [f"- {name}: {text}" for name, text in fields if text]
        return "\n".join(lines)


def run(app: typer.Typer, argv: Sequence[str] | None = None) -> int:
    """Run the commands of ``app`` and return the exit code.

    What a command returns, or gives to ``typer.Exit``, is the code if it is a number. Errors of the
    command line and ``CliError``, alone or in an exception group, are told on stderr, and so is what
    the system refuses: a file, a folder, room on the disk. Anything else is a fault of ours and goes up.

    Args:
        app: The commands; its name is that of the program.
        argv: The command line without the program; that of this process when ``None``.
    """
    _open_what_is_closed()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            # What the encoding of a terminal or a pipe does not have is told as an escape.
            stream.reconfigure(errors="backslashreplace")
    try:
        code = _invoke(app, argv)
        sys.stdout.flush()
    except CliError as error:
        code = _tell(error)
    except typer.TyperException as error:
        code = _tell(_of_usage(error, app))
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except BrokenPipeError:
        code = _reader_left()
    except OSError as error:
        code = _tell(CliError(str(error)))
        _let_go_of_output()
    except BaseExceptionGroup as group:
        code = _of_group(group)
    return code


def _open_what_is_closed() -> None:
    """Give what the process was started without (``2>&-``): nothing to read, and nowhere to write."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            nowhere = Path(os.devnull).open(mode, encoding="utf-8")  # noqa: SIM115 - as they have it
            setattr(sys, name, nowhere)


def _invoke(app: typer.Typer, argv: Sequence[str] | None) -> int:
    name = app.info.name
    try:
        result: Any = typer.main.get_command(app).main(
            args=None if argv is None else list(argv),
            prog_name=name if isinstance(name, str) else None,
            standalone_mode=False,
        )
    except SystemExit as error:
        # Typer ends so when standard output has lost its reader.
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    return result if isinstance(result, int) else 0


def _tell(error: CliError) -> int:
    sys.stderr.write(f"{error}\n")
    sys.stderr.flush()
    return error.code


def _of_usage(error: typer.TyperException, app: typer.Typer) -> CliError:
    say_what_it_takes(error)
    # Typer may spread a message over several indented lines.
    reason = " ".join(error.format_message().split())
    context: typer.Context | None = getattr(error, "ctx", None)
    if context is None:
        # The parser does not say at which command it was.
        hint = Phrase.SEE_HELP.fill(command=str(app.info.name))
        return CliError(reason, hint=hint)
    usage = " ".join(context.get_usage().removeprefix("Usage:").split())
    option = getattr(error, "option_name", None)
    parent = context.parent
    if parent is not None and any(option in param.opts for param in parent.command.params):
        hint = Phrase.GLOBAL_OPTION.fill(option=str(option), program=parent.command_path)
    else:
        hint = Phrase.SEE_HELP.fill(command=context.command_path)
    return CliError(reason, usage=usage, hint=hint)


def _of_group(group: BaseExceptionGroup[BaseException]) -> int:
    # rich ends so when standard output has lost its reader; what fell over after that is no news.
    if group.subgroup((SystemExit, BrokenPipeError)) is not None:
        return _reader_left()
    known, unknown = group.split((CliError, KeyboardInterrupt))
    if unknown is not None or known is None:
        raise group
    errors = [leaf for leaf in leaves(known) if isinstance(leaf, CliError)]
    codes = [_tell(error) for error in errors]
    return codes[0] if codes else INTERRUPTED


def leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    """What went wrong, in order: the errors of a group, and those of the groups in it."""
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from leaves(error)
        else:
            yield error


def _let_go_of_output() -> None:
    """What cannot be written now cannot be when Python ends either, which would change the exit code."""
    try:
        sys.stdout.flush()
    except OSError:
        _reader_left()


def _reader_left() -> int:
    """Whoever read our output has gone (``… | head``): nothing to say, and nothing left to flush."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
    return 1
