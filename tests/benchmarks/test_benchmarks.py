"""The command measures what it says; how fast anything is, it does not judge."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import page
from benchmarks.__main__ import main
from benchmarks.figures import CELERY, OLD, OURS, ROWS, Figures

CASES = {
    "submit": {"submit.one", "submit.many", "submit.batch", "client.one", "client.many"},
    "end-noop": {"end.noop"},
    "end-pause": {"end.pause"},
    "drain-noop": {"drain.noop", "work.gateway", "work.worker", "work.store"},
    "drain-pause": {"drain.pause"},
    "read": {"read.list.1000", "read.filtered.1000", "read.metrics.1000", "memory.filled"},
    "watch": {"watch.p50", "watch.p99"},
    "rest": {"cold.worker", "memory.gateway", "memory.worker", "idle.gateway", "idle.worker"},
    "start": {"cold.gateway"},
    "wheel": {"wheel.upload", "wheel.download", "wheel.memory"},
    "commands": {"command.help", "command.list", "command.metrics"},
}
LARGER = {name for name in ROWS if name.startswith("read.") and not name.endswith(".1000")}


def test_every_row_has_a_case() -> None:
    assert set().union(*CASES.values()) | LARGER == set(ROWS)


# The other two differ in the flow only.
@pytest.mark.parametrize("case", [case for case in CASES if not case.endswith("-pause")])
def test_a_case_measures_its_rows(
    case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "figures.json"
    assert main(["--quick", "--rounds", "1", "--only", case, "--json", str(file)]) == 0
    figures = Figures.read(file)
    assert set(figures.samples) == CASES[case]
    assert not figures.words
    table = capsys.readouterr().out
    for name, systems in figures.samples.items():
        (found,) = systems[OURS]
        assert found > 0 or name.startswith("idle."), name
        assert ROWS[name].title in table


@pytest.fixture
def figures() -> Figures:
    """Two rounds, the second on a machine that was half as fast."""
    made = Figures(
        about={
            "date": "2026-01-01",
            "commit": "abc",
            "processor": "P",
            "cores": 2,
            "load": 0.1,
            "python": "3.11.7",
            "rounds": 2,
        }
    )
    for slower in (1, 2):
        made.add(
            OURS, {"submit.one": 1.5 * slower, "end.noop": 5.0 * slower, "read.list.1000": 1.0}
        )
        made.add(OLD, {"submit.one": 1.0 * slower, "end.noop": "hangs after 3 of 40"})
        made.add(CELERY, {"end.noop": 2.5 * slower})
    return made


def test_ratios_are_of_figures_that_had_the_same_noise(figures: Figures) -> None:
    assert figures.ratio("submit.one", OLD) == 1.5
    assert figures.ratio("end.noop", CELERY) == 2.0
    assert figures.ratio("end.noop", OLD) is None


def test_the_page_gets_its_figures_and_keeps_the_rest(
    figures: Figures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "performance.md"
    monkeypatch.setattr(page, "PAGE", file)
    monkeypatch.setattr(page, "IMAGES", tmp_path)
    file.write_text(f"# Performance\n\n{page.BEGIN}old\n{page.END}\nThe end.\n")
    page.write_page(figures)
    text = file.read_text()
    assert text.startswith("# Performance\n")
    assert text.endswith("\nThe end.\n")
    assert "| `POST /runs`, 1 client, p50 | ms | 2.25 | 1.5 | 1.50 |" in text
    assert "| no-op, p50 | ms | 7.5 | hangs after 3 of 40 | 3.75 |  | 2.00 |" in text
    assert "old" not in text
    for image in tmp_path.glob("*.svg"):
        assert image.name in text
        assert image.read_text().startswith("<svg ")


def test_a_row_that_is_not_known_is_refused() -> None:
    with pytest.raises(KeyError):
        Figures().add(OURS, {"submit.two": 1.0})
