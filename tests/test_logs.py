"""Log lines carry the fields that searches of 0.5.1's logs rely on."""

from __future__ import annotations

import io
import json
import logging
import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import structlog
from msgspec.structs import replace
from trio.testing import wait_all_tasks_blocked

from pyoco_server.kernel import Actor, ChildSpec, Refusal, SupervisorSpec, open_system
from pyoco_server.logs import configure_logging, stay_quiet
from pyoco_server.model.errors import ErrorId
from pyoco_server.settings import Settings


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield io.StringIO()
    root.handlers[:], root.level = handlers, level
    structlog.reset_defaults()


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_has_the_fields_of_the_contract(stream: io.StringIO) -> None:
    configure_logging(service="pyoco-server:http", settings=Settings(), stream=stream)
    structlog.get_logger("pyoco_server.x").warning(
        "run not found", err_id=ErrorId.RUN_NOT_FOUND, run_id="r"
    )
    (line,) = lines(stream)
    assert list(line)[:4] == ["ts", "level", "service", "message"]  # for who reads along
    assert line["message"] == "run not found"
    assert (line["service"], line["level"], line["logger"]) == (
        "pyoco-server:http",
        "WARNING",
        "pyoco_server.x",
    )
    assert (line["err_id"], line["msg_id"]) == ("ERR-PYOCO-0005", "MSG-PYOCO-0005")
    assert line["run_id"] == "r"
    assert line["ts"].endswith("Z")
    assert line["pathname"].endswith("test_logs.py")
    assert line["func"] == "test_a_line_has_the_fields_of_the_contract"
    assert {"lineno", "process", "thread"} <= line.keys()


def break_down() -> None:
    raise ValueError("broken")


def test_an_error_is_told_with_its_origin(stream: io.StringIO) -> None:
    configure_logging(service="s", settings=Settings(), stream=stream)
    try:
        break_down()
    except ValueError:
        structlog.get_logger("pyoco_server.x").exception("oops")
    (line,) = lines(stream)
    assert (line["exc_type"], line["exc_message"]) == ("ValueError", "broken")
    assert line["exc_origin"]["func"] == "break_down"
    assert "Traceback" in line["exc_traceback"]


def test_tracebacks_can_be_left_out(stream: io.StringIO) -> None:
    settings = replace(Settings(), log_include_traceback=False)
    configure_logging(service="s", settings=settings, stream=stream)
    try:
        break_down()
    except ValueError:
        structlog.get_logger("pyoco_server.x").exception("oops")
    assert "exc_traceback" not in lines(stream)[0]


def test_the_level_is_kept_and_other_libraries_speak_from_warning_on(stream: io.StringIO) -> None:
    settings = replace(Settings(), log_level="DEBUG")
    configure_logging(service="s", settings=settings, stream=stream)
    structlog.get_logger("pyoco_server.x").debug("ours")
    logging.getLogger("elsewhere").info("quiet")
    logging.getLogger("elsewhere").warning("loud", extra={"run_id": "r"})
    assert [line["message"] for line in lines(stream)] == ["ours", "loud"]
    assert lines(stream)[1]["run_id"] == "r"


def test_text_is_for_people(stream: io.StringIO) -> None:
    settings = replace(Settings(), log_format="text")
    configure_logging(service="s", settings=settings, stream=stream)
    structlog.get_logger("pyoco_server.x").warning("hello", run_id="r")
    text = stream.getvalue()
    assert "hello" in text
    assert "run_id=r" in text
    assert "pathname" not in text


def test_a_logger_needs_no_name(stream: io.StringIO) -> None:
    configure_logging(service="s", settings=Settings(), stream=stream)
    structlog.get_logger().warning("hello")
    (line,) = lines(stream)
    assert (line["message"], line["logger"]) == ("hello", "")


def quieted() -> None:
    structlog.reset_defaults()
    stay_quiet()


@pytest.mark.parametrize("configure", [partial(configure_logging, service="s"), quieted])
def test_nothing_is_written_where_standard_error_is_closed(
    stream: io.StringIO,
    configure: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    configure()
    structlog.get_logger("pyoco_server.x").warning("hello")
    logging.getLogger("elsewhere").warning("hello")
    assert capsys.readouterr().out == ""


class Never(Refusal):
    pass


class Refusing(Actor[str]):
    async def handle(self, message: str) -> None:
        raise Never(message)


async def test_a_refused_message_is_named(stream: io.StringIO) -> None:
    configure_logging(service="s", settings=Settings(), stream=stream)
    spec = ChildSpec[str]("a", Refusing)
    async with open_system(SupervisorSpec("root", [spec])):
        await spec.ref.tell("no")
        await wait_all_tasks_blocked()
    (line,) = (each for each in lines(stream) if each["message"] == "told message refused")
    assert (line["actor"], line["refused"], line["reason"]) == ("/a", "str", "no")
