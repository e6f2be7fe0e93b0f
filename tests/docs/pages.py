"""Pages that are made of the code. ``PYTHONPATH=tests python -m docs.pages`` writes them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from docs.options_page import options_page
from docs.scenario_page import scenario_page
from pyoco_server.settings import Settings, describe

ROOT = Path(__file__).resolve().parents[2]

_SETTINGS_HEAD = """\
# Settings

Variables of the environment, or of a `.env` file in the working directory; the environment wins.
`PYOCO_ENV_FILE` names another file, `PYOCO_LOAD_DOTENV=0` reads none. An empty value counts as not set. A
value that cannot be read stops the start with the name of the variable, what it held and what it takes.
Durations are in seconds, sizes in bytes.

<!-- Made by tests/docs/pages.py; a test compares it with the code. -->

| variable | takes | default | meaning |
| --- | --- | --- | --- |
"""


def settings_page() -> str:
    """Every variable as `describe` knows it."""
    rows = (
        f"| `{row.env}` | {_cell(row.takes)} | {_cell(row.default)} | {_cell(row.doc)} |\n"
        for row in sorted(describe(Settings), key=lambda row: row.env)
    )
    return _SETTINGS_HEAD + "".join(rows)


PAGES: dict[Path, Callable[[], str]] = {
    ROOT / "docs/reference/settings.md": settings_page,
    ROOT / "docs/reference/options.md": options_page,
    ROOT / "docs/reference/scenario.md": scenario_page,
}


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")


if __name__ == "__main__":
    for path, make in PAGES.items():
        path.write_text(make())
