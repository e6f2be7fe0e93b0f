"""Names, versions, the choice of a worker, and what an archive may not hold."""

from __future__ import annotations

import io
import struct

import pytest
from packaging.tags import Tag, parse_tag, sys_tags

from pyoco_server.model.wheel import (
    InvalidWheelName,
    InvalidWheelTags,
    StoredWheel,
    WheelVersionConflict,
    check_rise,
    parse_wheel_name,
    parse_worker_tags,
    select,
)
from pyoco_server.model.wheel_archive import BadWheel, check_archive
from wheels.hostile import hostile
from wheels.making import file_name, wheel_bytes

SUPPORTED = {tag: place for place, tag in enumerate(sys_tags())}


def stored(name: str, *tags: str, tenant: str | None = None) -> StoredWheel:
    return StoredWheel(parse_wheel_name(name), 1, "00", "n", "t", tags, tenant)


@pytest.mark.parametrize(
    ("text", "detail"),
    [
        ("../a-1-py3-none-any.whl", "invalid wheel name"),
        ("a b-1-py3-none-any.whl", "invalid wheel name"),
        ("a-1-py3-none-any.zip", "invalid wheel name"),
        ("", "invalid wheel name"),
        ("a.whl", "invalid wheel filename"),
        ("a-version-py3-none-any.whl", "invalid wheel filename"),
    ],
)
def test_a_name_that_is_none_is_refused_in_the_contracts_words(text: str, detail: str) -> None:
    with pytest.raises(InvalidWheelName) as caught:
        parse_wheel_name(text)
    assert caught.value.detail == detail


def test_names_are_normalised() -> None:
    one, two = (parse_wheel_name(file_name(p, "1.0")) for p in ("My_Tasks", "my.tasks"))
    assert one.package == two.package == "my-tasks"


def test_worker_tags() -> None:
    assert parse_worker_tags(" a, b,,a ") == ("a", "b")
    with pytest.raises(InvalidWheelTags):
        parse_worker_tags("a,b.c")


@pytest.mark.parametrize(
    ("new", "detail"),
    [
        ("2.0", None),
        ("1.10", None),
        ("1.9", "wheel version already exists; bump version"),
        ("1.9.0", "wheel version already exists; bump version"),
        ("1.8", "wheel version must be greater than existing latest version"),
        ("1.9rc1", "wheel version must be greater than existing latest version"),
    ],
)
def test_versions_rise(new: str, detail: str | None) -> None:
    earlier = [
        parse_wheel_name(file_name("Tasks", "1.9")),
        parse_wheel_name(file_name("tasks", "0.1")),
        parse_wheel_name(file_name("others", "9.9")),
    ]
    name = parse_wheel_name(file_name("tasks", new))
    if detail is None:
        check_rise(name, earlier)
    else:
        with pytest.raises(WheelVersionConflict) as caught:
            check_rise(name, earlier)
        assert (caught.value.detail, str(caught.value.latest)) == (detail, "1.9")


def test_a_worker_takes_the_newest_that_fits() -> None:
    found = select(
        [
            stored("a-1.0-py3-none-any.whl"),
            stored("a-2.0-py3-none-any.whl", "cpu"),
            stored("a-3.0-py3-none-any.whl", "gpu"),
            stored("b-1.0-py3-none-any.whl"),
            stored("b-2.0-cp27-cp27m-win32.whl"),
        ],
        ["cpu"],
        SUPPORTED,
    )
    assert {p: [str(w.name.version) for w in ws] for p, ws in found.candidates.items()} == {
        "a": ["2.0", "1.0"],
        "b": ["1.0"],
    }
    assert [(skip.wheel_name, skip.reason) for skip in found.skipped] == [
        ("b-2.0-cp27-cp27m-win32.whl", "unsupported_wheel_tags")
    ]


def test_of_one_version_the_most_specific_is_taken() -> None:
    supported = {Tag("cp311", "cp311", "linux_x86_64"): 0, Tag("py3", "none", "any"): 1}
    assert set(parse_tag("py3-none-any")) <= supported.keys()
    found = select(
        [stored("a-1-py3-none-any.whl"), stored("a-1-cp311-cp311-linux_x86_64.whl")], [], supported
    )
    assert found.candidates["a"][0].name.text == "a-1-cp311-cp311-linux_x86_64.whl"


def test_a_sound_wheel_passes() -> None:
    data = wheel_bytes(metadata="Name: Tasks\nVersion: 1.0.0\nRequires-Python: >=3.9\n")
    wanted = check_archive(io.BytesIO(data), parse_wheel_name(file_name()))
    assert wanted is not None
    assert "3.11" in wanted
    assert "3.8" not in wanted


@pytest.mark.parametrize("kind", hostile())
def test_a_bad_wheel_is_refused_with_the_reason(kind: str) -> None:
    data, reason = hostile()[kind]
    with pytest.raises(BadWheel, match=reason):
        check_archive(io.BytesIO(data), parse_wheel_name(file_name()))


def test_a_directory_of_millions_of_entries_is_not_read() -> None:
    """It takes ten times its size of memory, and whoever reads it minutes."""
    entries = struct.pack("<4s24x3H12x1s", b"PK\1\2", 1, 0, 0, b"a") * 200_000
    end = struct.pack("<4s4x2H2L2x", b"PK\5\6", 0xFFFF, 0xFFFF, len(entries), 0)
    with pytest.raises(BadWheel, match="read as a whole"):
        check_archive(io.BytesIO(entries + end), parse_wheel_name(file_name()))
