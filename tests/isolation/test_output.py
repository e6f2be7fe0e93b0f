"""What is printed belongs to the run that printed it, or to none."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from isolation.lives import Lives, lives
from pyoco_server.model.run import RunStatus
from pyoco_server.worker.runner.handle import Exited
from runner.children import Told

SECRET = "what the misdeed knows"


@pytest.fixture
async def slot(tmp_path: Path) -> AsyncIterator[Lives]:
    async with lives(tmp_path / "0") as slot:
        yield slot


def everything(told: Told) -> str:
    return "".join(output.text for output in told.outputs())


@pytest.mark.parametrize("misdeed", ["exit_with_words", "crash_with_words", "say_a_secret"])
async def test_last_words_are_of_the_run_that_said_them(slot: Lives, misdeed: str) -> None:
    assert SECRET in everything(await slot.run(misdeed))
    for ending, text in (("go_without_a_word", "exited with 0"), ("kill_itself", "SIGKILL")):
        told = await slot.run(ending)
        assert isinstance(told.last, Exited)
        assert text in told.last.text
        assert SECRET not in told.last.text + everything(told)
        await slot.run(misdeed)


async def test_what_c_code_prints_is_of_its_run(slot: Lives) -> None:
    for _ in range(2):
        assert (await slot.run("print_in_c")).text(None, "stderr") == "of c\n"
        assert (await slot.run("fail")).text(None, "stderr") == ""


async def test_half_a_character_ends_with_its_run(slot: Lives) -> None:
    for _ in range(2):
        told = await slot.run("print_half_a_character")
        assert told.text("a") + told.text(None) == "\\xc3"
        assert told.text(None, "stderr") == "\\xc3"
        assert {output.run_id for output in told.outputs()} == {told.finished.run_id}
        assert everything(await slot.run("fail")) == ""


@pytest.mark.parametrize(
    "misdeed",
    [
        "close_stdout",
        "detach_stdout",
        "reconfigure_stdout",
        "replace_stdout",
        "turn_stdout_elsewhere",
    ],
)
async def test_the_streams_of_the_next_run_are_fresh_ones(slot: Lives, misdeed: str) -> None:
    assert (await slot.run(misdeed)).finished.status is RunStatus.COMPLETED
    told = await slot.run("print_without_end")
    assert (told.text("a"), told.text("a", "stderr")) == ("no end", "nor here")
    assert told.text(None, "stderr") == "nor here"


@pytest.mark.parametrize(
    "misdeed", ["warn", "log_warnings", "make_log_records", "log_in_its_own_way"]
)
async def test_a_run_logs_what_the_one_before_did(slot: Lives, misdeed: str) -> None:
    first = everything(await slot.run(misdeed))
    pid = slot.pid
    assert first
    assert everything(await slot.run(misdeed)) == first
    assert slot.pid == pid


async def test_the_streams_are_like_those_of_any_program(slot: Lives) -> None:
    told = await slot.run("use_streams")
    assert told.finished.status is RunStatus.COMPLETED, told.finished.error
    assert told.text("a") == "é\nto stdout\nbytes\nlines\nin latin\n"
    assert told.text("a", "stderr") == "to stderr\n"


async def test_a_thread_of_an_ended_run_writes_into_no_other_run(slot: Lives) -> None:
    assert (await slot.run("leave_a_thread")).finished.worn == "threads"
    for tenant in "ab":
        assert SECRET not in everything(await slot.run("print_without_end", tenant))
