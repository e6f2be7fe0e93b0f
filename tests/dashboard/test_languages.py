"""The words of the dashboard: both languages have all of them, and no more than are used."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path

STATIC = Path(str(files("pyoco_http"))) / "static"
LANGUAGES = STATIC / "js" / "lang"
ENTRY = re.compile(r'"([a-z_]+(?:\.\w+)+)":\s*"((?:[^"\\]|\\.)*)"')
LITERAL = re.compile(r'"([a-z_]+(?:\.[A-Za-z_]+)+)"')
# t(`runs.filter.${name}`) and word("state", status): the end of the key comes from elsewhere.
DYNAMIC = re.compile(r"`([a-z_]+(?:\.[a-z_]+)*)\.\$\{(\w|\.)+\}((?:\.\w+)*)`|word\(\"([a-z_.]+)\",")


def words(language: str) -> dict[str, str]:
    text = (LANGUAGES / f"{language}.js").read_text()
    found = ENTRY.findall(text)
    assert len(found) == len(dict(found)), "a key stands there twice"
    assert len(found) == text.count('": "'), "an entry is not read by this test"
    return dict(found)


def sources() -> str:
    return "\n".join(
        path.read_text()
        for path in sorted((STATIC / "js").rglob("*.js"))
        if path.parent != LANGUAGES
    )


def dynamic(key: str, text: str) -> bool:
    return any(
        key.startswith(f"{prefix or kind}.") and key.endswith(suffix)
        for prefix, _, suffix, kind in DYNAMIC.findall(text)
    )


def test_both_languages_have_the_same_keys() -> None:
    english, japanese = words("en"), words("ja")
    assert english.keys() == japanese.keys()
    for key, text in english.items():
        names = re.findall(r"\{\w+\}", text)
        assert sorted(names) == sorted(re.findall(r"\{\w+\}", japanese[key])), key


def test_every_key_is_used_and_every_used_one_is_there() -> None:
    english, text = words("en"), sources()
    used = set(LITERAL.findall(text)) - {kind for *_, kind in DYNAMIC.findall(text)}
    kinds = {key.rpartition(".")[0] for key in english}
    missing = {key for key in used if key not in english and key.rpartition(".")[0] in kinds}
    assert not missing
    unused = {key for key in english if key not in used and not dynamic(key, text)}
    assert not unused


def test_japanese_is_japanese() -> None:
    english = words("en")
    same = {key for key, text in words("ja").items() if text == english[key]}
    # Names and numbers that are the same in every language.
    assert same <= {"run.files.sha"}, same


def test_every_view_has_a_sign_and_a_name_in_the_navigation() -> None:
    views, signs = entries("main.js", "VIEWS"), entries("parts/icons.js", "PATHS")
    assert views
    assert views == signs
    assert {f"nav.{name}" for name in views} <= words("en").keys()


def entries(module: str, name: str) -> list[str]:
    """The names in an object of a module."""
    text = (STATIC / "js" / module).read_text()
    body = text.partition(f"const {name} = {{")[2].partition("};")[0]
    return re.findall(r"^  (\w+):", body, re.MULTILINE)
