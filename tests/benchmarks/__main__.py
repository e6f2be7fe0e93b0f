"""Measures pyoco-server, beside others if wanted: `cd tests && uv run python -m benchmarks --peers`."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final, TypeAlias

import structlog
import trio

from benchmarks import celery_peer, pyoco, read_side, upkeep, watchers
from benchmarks.figures import CELERY, OLD, OURS, Figures, Measures, about_this
from benchmarks.page import PAGE, text_table, write_page
from benchmarks.sizes import QUICK, WHOLE, Sizes
from e2e.programs import BIN
from pyoco_server.scenario.versions import cache_folder, commands_of, environment

Case: TypeAlias = Callable[[Path, Sizes], Measures]

LOAD: Final = ("submit", "end-noop", "end-pause", "drain-noop", "drain-pause")
"""Cases that are measured in each round; the others do not vary and are measured once."""


def cases_of(version: pyoco.Version) -> dict[str, Case]:
    """What can be measured of a pyoco-server."""
    cases: dict[str, Callable[[pyoco.Version, Path, Sizes], Measures]] = {
        "submit": pyoco.submitting,
        "end-noop": partial(pyoco.ending, "noop"),
        "end-pause": partial(pyoco.ending, "pause"),
        "drain-noop": partial(pyoco.draining, "noop"),
        "drain-pause": partial(pyoco.draining, "pause"),
        "read": read_side.reading,
        "watch": watchers.watching,
        "rest": upkeep.resting,
        "start": upkeep.starting,
        "wheel": upkeep.wheels,
        "commands": upkeep.commands,
    }
    if version.name != OURS:
        del cases["watch"]  # it looks twice a second
    return {name: partial(case, version) for name, case in cases.items()}


def cases_of_celery(scripts: Path) -> dict[str, Case]:
    """What can be measured of Celery."""
    return {
        "submit": partial(celery_peer.submitting, scripts),
        "end-noop": partial(celery_peer.ending, "noop", scripts),
        "end-pause": partial(celery_peer.ending, "pause", scripts),
        "drain-noop": partial(celery_peer.draining, "noop", scripts),
        "drain-pause": partial(celery_peer.draining, "pause", scripts),
    }


def turns(
    systems: Mapping[str, Mapping[str, Case]], rounds: int, only: Sequence[str]
) -> Iterator[tuple[str, str]]:
    """Each case for each system in turn, round after round, each beginning with another system."""
    names = list(systems)
    for number in range(rounds):
        turn = number % len(names)
        for case in systems[OURS]:
            if (only and case not in only) or (number and case not in LOAD):
                continue
            yield from (
                (case, name) for name in [*names[turn:], *names[:turn]] if case in systems[name]
            )


def measured(case: Case, sizes: Sizes) -> Measures:
    """What a case found; nothing, and its traceback on the screen, where it could not be measured."""
    with tempfile.TemporaryDirectory(prefix="pyoco-benchmark-") as folder:
        try:
            return case(Path(folder), sizes)
        except Exception:  # noqa: BLE001 - whatever it is, it keeps nobody from measuring the others
            traceback.print_exc()
            return {}


def peers() -> tuple[dict[str, dict[str, Case]], dict[str, str]]:
    """What is measured beside us, and its versions; installed where it is not yet."""
    old = trio.run(commands_of, OLD, cache_folder())
    celery = trio.run(environment, cache_folder() / "celery-5", "celery[redis]>=5.4,<6")
    systems = {
        # A worker of it executes one run at a time.
        OLD: cases_of(pyoco.Version(OLD, old, processes=4)),
        CELERY: cases_of_celery(celery),
    }
    return systems, {"celery": celery_peer.versions(celery)}


def arguments(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    cases = list(cases_of(pyoco.Version(OURS, BIN)))
    add = parser.add_argument
    add_file = partial(add, type=Path, metavar="FILE")
    add("--peers", action="store_true", help="measure 0.5.1 and Celery as well")
    add("--rounds", type=int, default=3, help="of the load; 3 by default")
    add("--only", action="append", default=[], choices=cases, metavar="CASE",
        help=f"may be repeated: {', '.join(cases)}")  # fmt: skip
    add("--quick", action="store_true", help="small sizes, which say little")
    add("--bin", type=Path, default=BIN, metavar="FOLDER",
        help="the commands of another checkout in place of this one's")  # fmt: skip
    add_file("--json", help="where the samples go, each as soon as it is there")
    add_file("--read", help="show these samples, and measure nothing")
    add_file("--beside", help="samples of another time, to compare")
    add("--page", action="store_true", help=f"write the figures of {PAGE.name}")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Run the command; 1 when something could not be measured."""
    options, failed = arguments(argv), False
    # Where bytecode may not be written, each program compiles anew all that it imports.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    if options.read is not None:
        figures = Figures.read(options.read)
    else:
        systems = {OURS: cases_of(pyoco.Version(OURS, options.bin.resolve()))}
        versions: dict[str, str] = {}
        if options.peers:
            others, versions = peers()
            systems |= others
        figures = Figures(about=about_this(rounds=options.rounds, quick=options.quick, **versions))
        sizes = QUICK if options.quick else WHOLE
        for case, system in turns(systems, options.rounds, options.only):
            found = measured(systems[system][case], sizes)
            failed = failed or not found
            figures.add(system, found)
            words = (f"{k} {v if isinstance(v, str) else f'{v:.4g}'}" for k, v in found.items())
            print(f"{case} {system}: {', '.join(words)}", file=sys.stderr, flush=True)
            if options.json is not None:
                options.json.write_text(figures.as_json())
    print(text_table(figures, options.beside and Figures.read(options.beside)))
    if options.page:
        write_page(figures)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
