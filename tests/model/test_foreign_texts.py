"""What a client sends takes a time to read that grows with its length, whatever it is."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable

import pytest

from busyness import assert_cheap
from pyoco_server.gateway.read_model.filters import RunFilter, decode_cursor
from pyoco_server.jetstream.advisories import decode_advisory
from pyoco_server.jetstream.objectinfo import decode_info
from pyoco_server.model.api_key import decode_key
from pyoco_server.model.dead_letter import decode_dead_letter
from pyoco_server.model.event import decode_events
from pyoco_server.model.flow.check import check_flow_file
from pyoco_server.model.flow.yaml_document import MAX_ERRORS
from pyoco_server.model.idempotency import decode_record
from pyoco_server.model.job import decode_job
from pyoco_server.model.json_text import KeyGivenTwice, check_keys, decode_json
from pyoco_server.model.names import nearest
from pyoco_server.model.run import decode_snapshot
from pyoco_server.model.schedules.params import UnknownPlaceholder, check_placeholders, fill_in
from pyoco_server.model.schedules.schedule import decode_schedule
from pyoco_server.model.wheel import InvalidWheelName, parse_object_name, parse_wheel_name
from pyoco_server.model.wheel_history import decode_event
from pyoco_server.model.worker import decode_worker
from pyoco_server.store.control import decode_control


@pytest.mark.parametrize(
    "text", ["{{" + " " * 20_000, "{{" + " a" * 10_000, "{{a" * 10_000, "{{}" * 10_000]
)
def test_a_text_with_braces(text: str) -> None:
    assert_cheap(lambda: check_placeholders({"x": text}))
    assert_cheap(lambda: fill_in({"x": text}, {"schedule_id": "a"}))


def test_a_name_in_braces_that_is_very_long() -> None:
    def read() -> None:
        with pytest.raises(UnknownPlaceholder):
            check_placeholders({"x": "{{" + " a" * 500_000 + "}}"})

    assert_cheap(read)


def test_an_object_of_very_many_keys_one_of_which_is_there_twice() -> None:
    keys = [f'"{number}":0' for number in range(100_000)]

    def read() -> None:
        with pytest.raises(KeyGivenTwice, match="'99999' is given twice"):
            check_keys(f"{{{','.join([*keys, keys[-1]])}}}".encode())

    assert_cheap(read)


def test_a_deep_text_that_goes_on_with_a_string_without_an_end() -> None:
    def read() -> None:
        with pytest.raises(ValueError):  # noqa: PT011 - whatever it says
            decode_json(b"[" * 5_000 + b'"' + b'\\"' * 100_000, cut=True)

    assert_cheap(read)


@pytest.mark.parametrize(
    "name",
    [
        f"a-1-{'.'.join('abcdef' * 500)}-{'.'.join('abcdef' * 500)}-{'.'.join('abcdef' * 500)}.whl",
        "-".join(["a-1", *[".".join(f"{number:x}" for number in range(18))] * 3]) + ".whl",
        "a" * 650 + "-1-py3-none-any.whl",
    ],
)
def test_a_wheel_with_a_long_name_or_for_very_many_systems(name: str) -> None:
    def read() -> None:
        for parse in (parse_wheel_name, parse_object_name):
            with pytest.raises(InvalidWheelName, match=r"at most \d+ are taken"):
                parse(name)

    assert_cheap(read)


def test_the_longest_name_of_a_wheel() -> None:
    name = f"{'a' * (180 - len('-1-py3-none-any.whl'))}-1-py3-none-any.whl"
    assert parse_wheel_name(name).text == name
    with pytest.raises(InvalidWheelName):
        parse_wheel_name(f"a{name}")


def tasks(count: int, inputs: str = "{}") -> str:
    numbered = ((number, inputs.replace("N", str(number))) for number in range(count))
    return "tasks:\n" + "".join(f"  task_name_{n}: {{inputs: {said}}}\n" for n, said in numbered)


def graph(text: str) -> str:
    return f"flow:\n  graph: {json.dumps(text)}\n"


FLOWS = {
    "references that nothing has": graph("a") + tasks(1_600, "{x: $node.task_nbme_N.output}"),
    "variables that are not exposed": f"{graph('a')}{tasks(1_200, '{x: $env.VARIABEL_N}')}"
    f"runtime: {{expose_env: [{', '.join(f'VARIABLE_{n}' for n in range(1_200))}]}}\n",
    "tasks that nothing configures": graph("\n".join(f"task_nbme_{n}" for n in range(4_000)))
    + tasks(2_400),
    "names that are all alike": graph("\n".join(f"t{'01' * 15}{n:011b}" for n in range(1_200)))
    + "tasks:\n"
    + "".join(f"  t{n:011b}{'01' * 15}: {{}}\n" for n in range(3_800)),
    "a graph of signs that are none": graph("?\n" * 30_000),
    "a number without digits": f'flow: {{graph: !!int "{"_" * 100_000}\\n\\nx"}}\n',
    "a decimal number without digits": f'flow: {{graph: !!float "{"_" * 100_000}\\n\\nx"}}\n',
    "a text of digits": f"flow: {{graph: {'1' * 100_000}x}}\n",
}


@pytest.mark.parametrize("flow", FLOWS)
def test_a_flow_file_in_which_very_much_is_wrong(flow: str) -> None:
    raw = FLOWS[flow].encode()
    assert len(raw) <= 262_144

    def read() -> None:
        assert len(check_flow_file(raw, max_bytes=262_144).findings) <= MAX_ERRORS

    assert_cheap(read, most=200)


def test_the_nearest_of_many_names_is_found_among_all_of_them() -> None:
    names = [*(f"other_{number}" for number in range(10_000)), "tag", "load_orders"]
    assert nearest("lod_orders", names) == "load_orders"
    assert nearest("tg", names) == "tag"
    assert nearest("zzzzzz", names) is None


DEEP = b'{"x":' + b"[" * 100_000


@pytest.mark.parametrize(
    "read",
    [
        lambda: decode_cursor(base64.urlsafe_b64encode(DEEP).decode(), RunFilter()),
        lambda: decode_events(b"[" + DEEP),
        lambda: decode_events(b'[{"type":"log","x":' + DEEP),
        lambda: decode_record(DEEP),
        lambda: decode_info(DEEP, sequence=1, stored_at=0.0),
        lambda: decode_schedule(DEEP),
        lambda: decode_key(DEEP),
        lambda: decode_job(DEEP),
        lambda: decode_worker(DEEP),
        lambda: decode_snapshot(DEEP),
        lambda: decode_dead_letter(DEEP),
    ],
)
def test_what_is_nested_too_deeply_is_refused_by_its_reader(read: Callable[[], object]) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - each has its own
        read()


@pytest.mark.parametrize("read", [decode_control, decode_advisory, decode_event])
def test_what_is_nested_too_deeply_is_passed_over(read: Callable[[bytes], object]) -> None:
    assert read(DEEP) is None
