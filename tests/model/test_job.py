from __future__ import annotations

import json
import uuid
from pathlib import Path

import pytest
from msgspec.structs import replace

from pyoco_server.model.errors import ErrorId
from pyoco_server.model.job import (
    InvalidJob,
    InvalidTag,
    Job,
    check_tag,
    decode_job,
    encode_job,
    is_run_id,
    new_run_id,
    with_revision,
)

GOLDEN = Path(__file__).parent / "golden"


@pytest.mark.parametrize("name", ["job", "job_yaml"])
def test_a_job_of_0_5_1_is_read_and_written_with_nothing_lost(name: str) -> None:
    raw = (GOLDEN / f"{name}.json").read_bytes()
    old = json.loads(raw)
    new = json.loads(encode_job(decode_job(raw)))
    assert {field: new[field] for field in old} == old


def test_only_two_fields_are_required_and_null_stands_for_the_default() -> None:
    bare = decode_job(b'{"run_id": "r", "flow_name": "f"}')
    assert bare == Job(run_id="r", flow_name="f")
    assert (bare.tag, bare.tags, bare.params, bare.submitted_at) == ("default", [], {}, 0.0)
    nulls = b"""{"run_id": "r", "flow_name": "f", "tag": null, "tags": null, "params": null,
    "submitted_at": null, "workflow_yaml": null, "of_the_future": 1}"""
    assert decode_job(nulls) == bare


def test_our_additions_go_round() -> None:
    job = Job(
        run_id=new_run_id(),
        flow_name="f",
        snapshot_revision=7,
        timeout_sec=1.5,
        max_attempts=3,
        traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        request_id="q",
    )
    assert decode_job(encode_job(job)) == job
    assert str(uuid.UUID(job.run_id)) == job.run_id


@pytest.mark.parametrize(
    ("raw", "why", "run_id"),
    [
        (b"nonsense", "not JSON", None),
        (b"\xff", "not JSON", None),
        (b"[]", "must be a JSON object, not list", None),
        (b"{}", "run_id is missing", None),
        (b'{"run_id": 3, "flow_name": "f"}', "run_id must be a text.*not 3", None),
        (b'{"run_id": "a b", "flow_name": "f"}', "run_id must be a text", None),
        (b'{"run_id": "r"}', "flow_name.*missing", "r"),
        (b'{"run_id": "r", "flow_name": ""}', "flow_name must be", "r"),
        (b'{"run_id": "r", "flow_name": 5}', "flow_name.*it is 5", "r"),
        (b'{"run_id": "r", "flow_name": "f", "params": [1]}', r"\$\.params", "r"),
        (b'{"run_id": "r", "flow_name": "f", "tags": [1]}', r"\$\.tags", "r"),
        (b'{"run_id": "r", "flow_name": "f", "tag": "a.b"}', "a tag has", "r"),
        (b'{"run_id": "r", "flow_name": "f", "submitted_at": "now"}', r"\$\.submitted_at", "r"),
    ],
)
def test_what_is_no_job_is_refused_with_the_reason_and_the_run(
    raw: bytes, why: str, run_id: str | None
) -> None:
    with pytest.raises(InvalidJob, match=why) as caught:
        decode_job(raw)
    assert caught.value.run_id == run_id
    assert caught.value.error_id is ErrorId.INVALID_JOB


@pytest.mark.parametrize(
    "text", ["0b9e1cd4-4b9e-4d6b-9a58-5f1c1d1c4a7e", "a", "a.b", "A/b_c=d-e", "x" * 200]
)
def test_any_key_that_nats_takes_is_a_run_id(text: str) -> None:
    assert is_run_id(text)


@pytest.mark.parametrize("text", ["", ".a", "a.", "a..b", "a b", "a>", "*", "é", "a\n", "x" * 201])
def test_what_nats_refuses_is_no_run_id(text: str) -> None:
    assert not is_run_id(text)


@pytest.mark.parametrize("text", ['"snapshot_revision":null', "\\", "é\ud800"])
def test_the_revision_is_added_to_a_job_that_is_written_already(text: str) -> None:
    job = Job(
        run_id="r",
        flow_name=text,
        params={"snapshot_revision": None, text: text},
        workflow_yaml=text,
        retry_of=text,
        request_id=text,
    )
    written = with_revision(encode_job(job), 17)
    assert written == encode_job(replace(job, snapshot_revision=17))


def test_a_new_run_has_a_run_id() -> None:
    assert is_run_id(new_run_id())


def test_a_tag_is_one_token() -> None:
    assert check_tag("gpu_A-1") == "gpu_A-1"
    for text in ("", "a.b", "a b", "é", "a\n", ">"):
        with pytest.raises(InvalidTag, match="characters A-Z a-z 0-9"):
            check_tag(text)
