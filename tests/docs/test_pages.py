"""Pages say what the code does, and lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path
from unittest.mock import MagicMock

import pytest

from docs.options_page import commands
from docs.pages import PAGES, ROOT
from pyoco_http.app import create_app
from pyoco_server.model.dead_letter import DeadLetterReason
from pyoco_server.model.event import EVENT_TYPES
from pyoco_server.settings import Settings

_LINK = re.compile(r"(?<!!)\[[^\]\n]*\]\(([^)\s]+)\)|!\[[^\]]*\]\(([^)\s]+)\)")
_FENCE = re.compile(r"^(```+).*?^\1`*$", re.DOTALL | re.MULTILINE)
_SKIPPED = {".venv", "node_modules", ".git", ".pyoco", "artifacts"}
MARKDOWN = sorted(
    path
    for path in ROOT.rglob("*.md")
    if not _SKIPPED & set(path.relative_to(ROOT).parts) and ".dist-info" not in str(path)
)


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", _FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in headings}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_a_page_that_is_made_of_the_code_is_up_to_date(path: Path) -> None:
    again = "write it anew: uv run poe pages"
    assert path.read_text() == PAGES[path](), again


@pytest.mark.parametrize("path", MARKDOWN, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_relative_link_leads_somewhere(path: Path) -> None:
    dead = []
    for match in _LINK.finditer(_FENCE.sub("", path.read_text())):
        target = match.group(1) or match.group(2)
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        page = (path.parent / name).resolve() if name else path
        if not page.exists() or (
            anchor and page.suffix == ".md" and anchor not in anchors(page.read_text())
        ):
            dead.append(target)
    assert not dead


def test_every_page_that_code_names_is_there() -> None:
    named = {
        page
        for folder in ("actors", "http", "cli")
        for path in (ROOT / folder).rglob("*.py")
        for page in re.findall(r"\bdocs/[\w/-]+\.md\b", path.read_text())
    }
    assert len(named) > 3
    assert not [page for page in named if not (ROOT / page).exists()]


@pytest.mark.parametrize("page", ["reference/http_api.md", "guides/logs-and-history.md"])
def test_every_reason_and_kind_of_event_is_told(page: str) -> None:
    text = (ROOT / "docs" / page).read_text()
    letters = text[text.index("## Dead letters") :]
    assert not [reason for reason in DeadLetterReason if f"`{reason}`" not in letters]
    kinds = r"^\| `(\w+)` \| " if "guides" in page else r"^\| `type` \(events\) \| (.*);"
    told = re.findall(r"\w+", " ".join(re.findall(kinds, text, re.MULTILINE)))
    assert not set(EVENT_TYPES) - set(told)


def test_every_command_is_in_the_reference() -> None:
    page = (ROOT / "docs/reference/commands.md").read_text()
    told = [told for told, command in commands() if not hasattr(command, "commands")]
    assert len(told) > 50
    missing = []
    for each in told:
        program, _, name = each.partition(" ")
        way = rf"(?:{program} )?{re.escape(name)}" if name else program
        if not re.search(rf"`{way}\b[^`]*`", page):
            missing.append(each)
    assert not missing, "\n".join(missing)


def test_every_route_is_in_the_reference() -> None:
    page = (ROOT / "docs/reference/http_api.md").read_text()
    app = create_app(MagicMock(settings=Settings()))
    missing = []
    for rule in app.url_map.iter_rules():
        path = re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule)
        methods = (rule.methods or set()) - {"HEAD", "OPTIONS"}
        missing += [f"{each} {path}" for each in methods if f"`{each} {path}`" not in page]
    assert not missing, "\n".join(missing)


def test_every_translation_has_the_sections_and_commands_of_its_original() -> None:
    for path in MARKDOWN:
        if not path.stem.endswith("_ja"):
            continue
        original = path.with_name(path.name.replace("_ja.md", ".md")).read_text()
        translated = path.read_text()
        for pattern in (r"^(#+) ", r"^```console\n(.*?)^```", r"^```python\n(.*?)^```"):
            flags = re.MULTILINE | re.DOTALL
            assert re.findall(pattern, translated, flags) == re.findall(pattern, original, flags)


def linked(page: Path) -> set[Path]:
    """The files of ours that a page leads to."""
    targets = [match.group(1) or match.group(2) for match in _LINK.finditer(page.read_text())]
    return {(page.parent / target.partition("#")[0]).resolve() for target in targets}


def test_the_index_names_every_page_under_its_kind() -> None:
    index = ROOT / "docs/README.md"
    pages = {page for page in MARKDOWN if page.is_relative_to(index.parent)} - {index}
    assert pages == {target for target in linked(index) if target.suffix == ".md"}
    for section in re.split(r"^## ", index.read_text(), flags=re.MULTILINE)[1:]:
        folders = set(re.findall(r"\]\((\w+)/", section)) - {"deploy"}
        assert folders == {section.splitlines()[0].lower()}


def test_the_readmes_lead_to_the_index() -> None:
    for name in ("README.md", "README_ja.md"):
        assert ROOT / "docs/README.md" in linked(ROOT / name)


def test_the_architecture_names_every_folder() -> None:
    page = (ROOT / "docs/explanation/architecture.md").read_text()
    code = ROOT / "actors/pyoco_server"
    floors = {folder.name for folder in code.iterdir() if (folder / "__init__.py").exists()}
    named = set(re.findall(r"`(?:…|actors/pyoco_server)/(\w+)/?`", page))
    assert floors - {"demo_flow"} <= named
    assert all((code / name).exists() or (code / f"{name}.py").exists() for name in named)


def test_the_changelog_begins_with_its_title_and_says_nothing_twice() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    assert text.startswith("# Changelog\n")
    entries = [" ".join(each.split()) for each in re.split(r"^- ", text, flags=re.MULTILINE)[1:]]
    assert len(entries) == len(set(entries))
