"""Programs, whose commands are imported when they are asked for: none waits for what another one needs."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import Annotated, Any, TypeAlias

import typer
from typer.core import TyperGroup


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version  # noqa: PLC0415 - few ask for it

        typer.echo(f"pyoco-server {version('pyoco-server')}")
        raise typer.Exit


Version: TypeAlias = Annotated[
    bool,
    typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version."),
]
"""An option that all programs have; it is printed before their own code runs."""

NatsUrl: TypeAlias = Annotated[
    str | None, typer.Option(help="URL of NATS; overrides PYOCO_NATS_URL.")
]
"""An option of the programs that talk to NATS themselves."""


def program(name: str, places: Mapping[str, str] | None = None) -> typer.Typer:
    """The commands of a program.

    Args:
        name: What it is called.
        places: Where they are, as `on_demand` takes them; None where they are added to it.
    """
    return typer.Typer(
        name=name,
        cls=None if places is None else on_demand(places),
        # Rich help would take half a second to import.
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )


def on_demand(places: Mapping[str, str]) -> type[TyperGroup]:
    """The class of a group (``typer.Typer(cls=…)``) whose commands are elsewhere.

    Args:
        places: Where each command, or group of commands, is: ``module:attribute`` by its name, in the
            order of the help.
    """

    class OnDemand(TyperGroup):
        def __init__(self, **attributes: Any) -> None:
            super().__init__(**{**attributes, "commands": _Commands(places)})

    return OnDemand


@contextmanager
def without(*modules: str) -> Iterator[None]:
    """What is imported inside of the block finds those modules not installed, unless they are loaded.

    For what a library takes along where it is there, and can do without.
    """
    hidden = [name for name in modules if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type] # None: it cannot be imported
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


class _Commands(Mapping[str, Any]):
    """Typer's commands by name, each made at the first look at it."""

    def __init__(self, places: Mapping[str, str]) -> None:
        self._places = places
        self._made: dict[str, Any] = {}

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, name: str) -> Any:
        if name not in self._made:
            module, _, attribute = self._places[name].partition(":")
            self._made[name] = _made(name, getattr(_imported(module), attribute))
        return self._made[name]


def _made(name: str, command: Any) -> Any:
    group = typer.Typer(rich_markup_mode=None)
    if isinstance(command, typer.Typer):
        group.add_typer(command, name=name)
    else:
        group.command(name)(command)
    made: Any = typer.main.get_group(group).commands[name]
    below = getattr(made, "commands", {})
    # Those that are made when they are asked for come here by themselves.
    for each in (made, *(() if isinstance(below, _Commands) else below.values())):
        # Lists of commands have it whole, in as many lines as it takes, rather than its beginning.
        each.short_help = " ".join((each.help or "").partition("\n\n")[0].split())
    return made


def _imported(module: str) -> ModuleType:
    if module in sys.modules:
        return sys.modules[module]
    # What imports make stays for good: looking through it again and again would cost a tenth of the start.
    gc.disable()
    try:
        return import_module(module)
    finally:
        gc.freeze()
        gc.enable()
