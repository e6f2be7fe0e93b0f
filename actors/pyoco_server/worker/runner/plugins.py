"""Tasks that a worker knows without a flow.yaml: who provides them, and bringing them in.

Providers are the entry points ``pyoco.tasks`` of installed distributions, and the modules of
``PYOCO_DISCOVERY_MODULES``. Which tasks one brings shows only when its code runs, and code may do
anything, so that is tried in a process of its own, which is this module as a program: it lists them all,
imports one after the other and reports on each. A child then imports what its flow uses, and nothing else.
"""

from __future__ import annotations

import faulthandler
import importlib
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from importlib import metadata
from typing import NoReturn

import msgspec
from pyoco.core.models import Task
from pyoco.discovery.loader import TaskLoader
from pyoco.discovery.plugins import PluginRegistry
from pyoco.schemas.config import PyocoConfig

from pyoco_server.model.json_text import encode_json
from pyoco_server.worker.runner import kin
from pyoco_server.worker.runner.importing import package_name, place_of, what_was_raised
from pyoco_server.worker.runner.pipe import end_copy
from pyoco_server.worker.runner.protocol import Provider
from pyoco_server.worker.runner.task_user import TaskUser


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """What the process is to try; its only argument, as JSON.

    Attributes:
        listing: Descriptor of the file that it lists all providers in, before it imports any.
        report: Descriptor of the file that it reports in, as may what it imports.
        extra_sys_path: Folders to import from, before all others.
        seconds: What each import may take.
        known: Providers that are not to be tried.
        only: The package whose plug-ins are tried; None for all.
        user: Whom it becomes before it imports any; None for the worker's own user.
    """

    listing: int
    report: int
    extra_sys_path: tuple[str, ...]
    seconds: float
    known: frozenset[str]
    only: str | None = None
    user: TaskUser | None = None


class Tried(msgspec.Struct, frozen=True, kw_only=True):
    """A line of the report: a provider is begun with, or is done, or (None) all are.

    Attributes:
        provider: Which; its `tasks` or `problem` are there once it is done.
        done: Whether it is.
        at: When, on the monotonic clock of the machine.
    """

    provider: Provider | None
    done: bool
    at: float


def providers(only: str | None) -> Iterator[Provider]:
    """All providers, the more important ones last; nothing is imported."""
    names = os.environ.get("PYOCO_DISCOVERY_MODULES", "").replace(",", " ").split()
    for name in names:
        yield Provider(kind="module", name=name, value=name, place=place_of(name))
    for entry in metadata.entry_points(group="pyoco.tasks"):
        distribution = entry.dist
        if only is not None and (distribution is None or only != package_name(distribution.name)):
            continue
        of = (
            f" of distribution {f'{distribution.name} {distribution.version}'!r}"
            if distribution
            else ""
        )
        place = f"plug-in {entry.name!r} (module {entry.module!r}{of})"
        yield Provider(kind="plugin", name=entry.name, value=entry.value, place=place)


def bring(provider: Provider) -> Mapping[str, Task]:
    """Import a provider; return its tasks by name. Whatever its code raises comes out."""
    loader = TaskLoader(PyocoConfig(version=1, flow=None, tasks={}))
    if provider.kind == "module":
        loader._scan_module(importlib.import_module(provider.value))
    else:
        entry = metadata.EntryPoint(name=provider.name, value=provider.value, group="pyoco.tasks")
        register = entry.load()
        if not callable(register):
            raise TypeError(f"the entry point {provider.value!r} is no function but {register!r}")
        register(PluginRegistry(loader, provider.name))
    return loader.tasks


def main() -> None:
    """Have a copy of this process try the providers; end as it does, after all that they have started."""
    trial = msgspec.json.decode(sys.argv[1], type=Trial)
    if trial.user is not None:
        trial.user.become()
    sys.path[:0] = trial.extra_sys_path
    listed = list(providers(trial.only))
    with os.fdopen(trial.listing, "wb") as listing:
        listing.writelines(msgspec.json.encode(each) + b"\n" for each in listed)
    kin.do_in_a_copy(lambda: _try_all(trial, listed))


def _try_all(trial: Trial, listed: Sequence[Provider]) -> NoReturn:
    """Try the providers; how far that went shows in the report, however it ends."""
    faulthandler.enable(2)
    process = os.getpid()

    def report(provider: Provider | None, *, done: bool) -> None:
        end_copy(process)
        line = Tried(provider=provider, done=done, at=time.monotonic())
        os.write(trial.report, encode_json(line) + b"\n")

    for provider in listed:
        if provider.key not in trial.known:
            report(provider, done=False)
            faulthandler.dump_traceback_later(trial.seconds, exit=True, file=2)
            report(_tried(provider), done=True)
    report(None, done=True)
    os._exit(0)


def _tried(provider: Provider) -> Provider:
    try:
        with redirect_stdout(sys.stderr):
            tasks = tuple(bring(provider))
    except BaseException as error:  # noqa: BLE001 - a plug-in's own code may raise anything
        return msgspec.structs.replace(provider, problem=f"raised {what_was_raised(error)}")
    return msgspec.structs.replace(provider, tasks=tasks)


if __name__ == "__main__":
    main()
