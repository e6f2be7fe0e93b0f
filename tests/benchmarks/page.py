"""Shows figures: as text, and in `docs/explanation/performance.md` with its plots."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from benchmarks.figures import CELERY, GROUPS, OLD, OURS, ROWS, SYSTEMS, Figures
from benchmarks.plots import bars, lines

ROOT: Final = Path(__file__).parents[2]
PAGE: Final = ROOT / "docs/explanation/performance.md"
IMAGES: Final = ROOT / "docs/images"
BEGIN: Final = "<!-- figures: made by tests/benchmarks -->\n"
END: Final = "<!-- end of the figures -->\n"


def text_table(figures: Figures, before: Figures | None = None) -> str:
    """All rows that were measured, for a terminal.

    Args:
        figures: What was measured.
        before: What was measured at another time; one more column has ours of it.
    """
    head = f"{'':52}{OURS:>12}{OLD:>12}{CELERY:>12}{'x ' + OLD:>10}{'x ' + CELERY:>10}"
    lines = [head + (f"{'before':>12}" if before else "")]
    for name, row in ROWS.items():
        if not _measured(figures, name):
            continue
        cells = [f"{f'{row.title} [{row.unit}]':52}"]
        cells += [f"{_cell(figures, name, system, short=True):>12}" for system in SYSTEMS]
        cells += [f"{_ratio(figures, name, system):>10}" for system in (OLD, CELERY)]
        if before is not None:
            cells.append(f"{_cell(before, name, OURS, short=True):>12}")
        lines.append("".join(cells))
    return "\n".join(lines)


def markdown(figures: Figures) -> str:
    """The figures' section of the page."""
    about = figures.about
    machine = f"{about['processor']}, {about['cores']} cores, Python {about['python']}"
    parts = [
        f"Measured on {about['date']} at {about['commit']}, {about['rounds']} rounds.\n"
        f"{machine}; the load before was {about['load']}. {about.get('celery', '')}".rstrip()
        + "\n"
    ]
    for title, rows in GROUPS:
        names = [name for name in rows if _measured(figures, name)]
        systems = [s for s in SYSTEMS if any(_cell(figures, n, s) != "-" for n in names)]
        if not names:
            continue
        others = [system for system in systems if system != OURS]
        head = [title, "", *systems, *(f"ours : {system}" for system in others)]
        parts.append(
            _line(head)
            + _line(["---"] * 2 + ["---:"] * (len(head) - 2))
            + "".join(
                _line(
                    [
                        rows[name].title,
                        rows[name].unit,
                        *(_cell(figures, name, system) for system in systems),
                        *(_ratio(figures, name, system) for system in others),
                    ]
                )
                for name in names
            )
        )
    parts += [f"![{alt}](../images/{file})\n" for file, alt, _ in plots(figures)]
    return "\n".join(parts)


def plots(figures: Figures) -> Iterator[tuple[str, str, str]]:
    """Each plot: its file, what it shows, and the SVG."""
    for file, alt, names in (
        (
            "performance-rates.svg",
            "Runs a second: more is better",
            ("submit.many", "submit.batch", "drain.noop", "drain.pause"),
        ),
        (
            "performance-times.svg",
            "Milliseconds: less is better",
            ("submit.one", "end.noop", "end.pause"),
        ),
    ):
        rows = {
            ROWS[name].title.replace("`", ""): {s: figures.middle(name, s) for s in SYSTEMS}
            for name in names
        }
        yield file, alt, bars(alt, rows)
    counts = (1_000, 10_000, 100_000)
    reads = {
        kind: [figures.middle(f"read.{kind}.{count}", OURS) for count in counts]
        for kind in ("list", "filtered", "metrics")
    }
    alt = "Milliseconds for a page, by the number of runs"
    yield "performance-reads.svg", alt, lines(alt, [f"{count:,}" for count in counts], reads)


def write_page(figures: Figures) -> None:
    """Write the figures' section of the page, and the plots; the rest of the page stays as it is."""
    before, _, rest = PAGE.read_text().partition(BEGIN)
    after = rest.partition(END)[2]
    PAGE.write_text(f"{before}{BEGIN}\n{markdown(figures)}\n{END}{after}")
    for file, _, drawn in plots(figures):
        (IMAGES / file).write_text(drawn)


def _measured(figures: Figures, name: str) -> bool:
    return name in figures.samples or name in figures.words


def _cell(figures: Figures, name: str, system: str, *, short: bool = False) -> str:
    found, words = figures.middle(name, system), figures.words.get(name, {}).get(system)
    if found is not None:
        return _number(found)
    return "-" if words is None else words.partition(" ")[0] if short else words


def _ratio(figures: Figures, name: str, system: str) -> str:
    found = figures.ratio(name, system)
    return "" if found is None else f"{found:.2f}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |\n"
