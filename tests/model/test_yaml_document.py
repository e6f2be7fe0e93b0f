from __future__ import annotations

import pytest
import yaml

from pyoco_server.model.errors import FlowFileError
from pyoco_server.model.flow.yaml_document import parse_yaml, read_yaml


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a: [1, -2.5, true, False, ~, null, 'x', 0x10, 1000]\nb: {c: d}", None),
        ("a: [y, n, Y, N, 1e3, 12e4567, 10:99, 1:2:x, 08, 0, -0, +1, 1., .5, 1.0e+3]", None),
        ("a: ['yes', \"0644\", '10:30', '1_000', '1e-3', !!str no, !!str 1e-3]", None),
        ("a: [nobody, offer, 1-2, a_b, v1_0, 10:30pm]", None),
        ("a: 09", {"a": "09"}),
        ("a: !!str 2024-01-01", {"a": "2024-01-01"}),
        ('a: "2024-01-01"', {"a": "2024-01-01"}),
        ("%YAML 1.1\n---\na: 1\n...\n", {"a": 1}),
        ("\ufeffa: é", {"a": "é"}),
        ("a: |\n  x\n  y\n", {"a": "x\ny\n"}),
        ("- " * 31 + "x", None),
    ],
)
def test_plain_yaml_means_what_the_safe_loader_says(text: str, value: object) -> None:
    read = parse_yaml(text).value
    assert read == yaml.safe_load(text)
    if value is not None:
        assert read == value


@pytest.mark.parametrize(
    ("text", "why", "line"),
    [
        ("", "the document is empty", 1),
        ("# nothing", "the document is empty", 1),
        ("a: 1\n---\nb: 2", "one document is enough", 2),
        ("a: &x 1", "anchors are not taken; remove &x", 1),
        ("a: 1\nb: *x", r"aliases are not taken; write out what \*x means", 2),
        ("a: 1\nb:\n  <<: {c: 1}", "merge keys", 3),
        ("a: 1\nwhen: 2024-01-01", 'when: JSON has no dates; .* quote it: "2024-01-01"', 2),
        ("a: 2024-01-01T10:00:00Z", "JSON has no dates", 1),
        ("a: .nan", r"JSON has no \.nan", 1),
        ("a: [1, -.inf]", r"a\[1\]: JSON has no", 1),
        ("a: !!float 1e999", "JSON has no 1e999", 1),
        ("a: !!binary aGk=", "values of type binary", 1),
        ("a: !!python/object/apply:os.system [x]", "the tag .*python.* is not taken", 1),
        ("a: !mine 1", "the tag !mine is not taken", 1),
        ("a: !!int x", "'x' is no int", 1),
        ("a: !!bool x", "'x' is no bool", 1),
        ("a: " + "9" * 5000, "a number of more than 400 characters", 1),
        ("a: 1\na: 2", "a: given twice", 2),
        ("on: 1", 'a key must be a text; quote it: "on"', 1),
        ("1: 2", "a key must be a text", 1),
        ("? [1]\n: 2", "a key must be a text, not a list", 1),
        ("a: " + "[" * 70 + "]" * 70, "nested more than 64 deep", 1),
        ("[" + "1," * 10_001 + "]", "more than 10000 keys and values", 1),
        ("a: b: c", "not valid YAML: mapping values", 1),
        ("a:\n\t- b", "not valid YAML", 2),
        ("a: \x01", "not valid YAML", None),
        ("[1", "not valid YAML", 2),
    ],
)
def test_what_goes_beyond_json_is_refused_with_its_line(
    text: str, why: str, line: int | None
) -> None:
    with pytest.raises(FlowFileError, match=why) as caught:
        parse_yaml(text)
    assert caught.value.line == line


def test_very_many_directives_are_refused_before_they_are_read() -> None:
    directives = "".join(f"%TAG !{number}! x\n" for number in range(200))
    with pytest.raises(FlowFileError, match="more than 100 lines begin with %"):
        parse_yaml(f"{directives}---\na: 1\n")
    parse_yaml(f"{directives[: directives.index('!9!')]}!9! x\n---\na: 1\n")


def test_387_bytes_of_aliases_cost_nothing() -> None:
    bomb = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"{after}: &{after} [{', '.join([f'*{before}'] * 9)}]\n"
        for before, after in zip("abcdefg", "bcdefgh", strict=True)
    )
    with pytest.raises(FlowFileError, match="anchors are not taken"):
        parse_yaml(bomb)


def test_every_value_has_a_place() -> None:
    document = parse_yaml("a:\n  b: [1, 2]\nc: |\n  x\n")
    place = document.places["a", "b", 1]
    assert (place.line, place.column) == (2, 10)
    assert document.places["c",].style == "|"
    error = document.error("is wrong", ("a", "missing"))
    assert str(error) == "a.missing: is wrong (line 2, column 3)"


SURPRISES = [
    *("yes", "No", "ON", "off"),
    *("10:30", "-1:30", "10:30:00", "1:30.5", "20:30:15.5", "190:20:30"),
    *("0644", "-012", "007", "00", "0_7"),
    *("1_000", "1_000.5", "0x_10", "0b1010", "+0b1_0"),
    *("0o17", "0o644", "1e-3", "1E+3", "1.5e3", ".5e3", "-2.e7", "-.5", "+.5", "-.5e-3"),
]


@pytest.mark.parametrize("text", SURPRISES)
def test_what_yaml_1_1_reads_as_few_expect_is_refused_with_its_line(text: str) -> None:
    for document in (f"a: 1\nb: {text}", f"a: 1\nb: [{text}]", f"a: 1\nb: {text} # why"):
        with pytest.raises(FlowFileError, match="quote it") as caught:
            parse_yaml(document)
        assert (caught.value.line, text in caught.value.reason) == (2, True)
    for quoted in (f"'{text}'", f'"{text}"', f"!!str {text}", f"|-\n  {text}"):
        assert parse_yaml(f"b: {quoted}").value == {"b": text}
    # What was accepted means what it meant.
    accepted = read_yaml(f"b: {text}", accepted=True)
    assert (accepted.value, accepted.errors) == (yaml.safe_load(f"b: {text}"), ())


def test_a_tag_does_not_make_it_clearer() -> None:
    for text in ("!!int 0644", "!!bool yes", "!!float 1:30.5", '!!int "0644"', "!!int '1_000'"):
        with pytest.raises(FlowFileError, match="quote it"):
            parse_yaml(f"a: {text}")
