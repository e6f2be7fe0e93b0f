from __future__ import annotations

import re

from pyoco_server.model.errors import ErrorId, FlowFileError


def test_ids_are_numbered_without_a_gap_and_say_what_happened() -> None:
    ids = [member.value for member in ErrorId]
    assert ids == [f"ERR-PYOCO-{n:04}" for n in range(1, len(ids) + 1)]
    assert all(re.fullmatch(r"[A-Za-z_ -]+", member.text) for member in ErrorId)


def test_an_id_is_its_text_on_the_wire_and_has_a_message_id() -> None:
    assert f"{ErrorId.RUN_NOT_FOUND}" == "ERR-PYOCO-0005"
    assert ErrorId.RUN_NOT_FOUND.msg_id == "MSG-PYOCO-0005"
    assert ErrorId["WORKFLOW_TOO_LARGE"] is ErrorId.WORKFLOW_TOO_LARGE


def test_a_flow_file_error_says_what_and_where() -> None:
    error = FlowFileError("must be a text", path="tasks.a.use", line=3, column=9)
    assert str(error) == "tasks.a.use: must be a text (line 3, column 9)"
    assert str(FlowFileError("the document is empty")) == "the document is empty"
