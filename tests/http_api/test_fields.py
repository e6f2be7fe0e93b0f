"""What is sent and what is not known: nothing is ignored, nothing is dropped."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner
from werkzeug.datastructures import Headers
from werkzeug.sansio.multipart import MultipartDecoder

from backend.stage import TAG, queued
from busyness import assert_cheap
from http_api.answers import described_app, known_operations
from http_api.gateway import YAML, gateway, yaml_form
from pyoco_cli.client.app import app
from pyoco_cli.common.parameters import collect_params
from pyoco_http import forms
from pyoco_http.forms import text_of
from pyoco_server.client import AsyncPyocoHttpClient

RUN = {"flow_name": "quick", "tag": TAG}


async def params_of(client: httpx.AsyncClient, answer: httpx.Response) -> Any:
    assert answer.status_code == 200, answer.text
    return (await client.get(f"/runs/{answer.json()['run_id']}")).json()["params"]


async def test_params_of_a_form_go_over_the_defaults_of_the_file(tmp_path: Path) -> None:
    text = YAML.replace(b"{x: 1}", b"{x: 1, y: 2}")
    async with gateway(tmp_path, worker=False) as (client, _):
        form = yaml_form(text, params='{"x": 5, "z": [1.0, "1"]}')
        answer = await client.post("/runs/yaml", **form)
        assert await params_of(client, answer) == {"x": 5, "y": 2, "z": [1.0, "1"]}
        for empty in ("", "{}"):
            answer = await client.post("/runs/yaml", **yaml_form(text, params=empty))
            assert await params_of(client, answer) == {"x": 1, "y": 2}
        for wrong in ("[1]", "{x: 1}", '{"x": NaN}', "x=1"):
            refused = await client.post("/runs/yaml", **yaml_form(text, params=wrong))
            assert (refused.status_code, refused.json()["field"]) == (422, "params")


async def test_the_client_sends_params_along_with_a_file(tmp_path: Path) -> None:
    async with gateway(tmp_path, worker=False) as (client, backend):
        async with AsyncPyocoHttpClient(str(client.base_url)) as ours:
            answer = await ours.submit_run_yaml(YAML.decode(), {"x": 7}, tag=TAG)
            assert (await backend.get(answer["run_id"])).params == {"x": 7}
            wrong: dict[str, Any] = {"timeout_seconds": 5}
            with pytest.raises(TypeError, match=r"timeout_seconds.*there are .*\btimeout_sec\b"):
                await ours.submit_run_yaml(YAML.decode(), tag=TAG, **wrong)
            with pytest.raises(TypeError, match="timeout_seconds"):
                await ours.submit_run("quick", tag=TAG, **wrong)
        assert await queued(backend) == 1


@pytest.mark.parametrize(
    ("field", "meant"),
    [
        ("parms", "params"),
        ("timeout_seconds", "timeout_sec"),
        ("flowname", "flow_name"),
        ("max_attempt", "max_attempts"),
        ("retry_backoff", "retry_backoff_sec"),
    ],
)
async def test_a_field_that_nobody_knows_is_refused(tmp_path: Path, field: str, meant: str) -> None:
    async with gateway(tmp_path, worker=False) as (client, backend):
        batch = await client.post("/runs/batch", json={"runs": [{**RUN, field: 1}, RUN]})
        assert batch.json()["accepted"] == 1, "one that is wrong spoils no other"
        errors = [
            (await client.post("/runs", json={**RUN, field: 1})).json(),
            (await client.post("/runs/yaml", **yaml_form(YAML, **{field: "1"}))).json(),
            batch.json()["items"][0]["error"],
        ]
        for error in errors:
            assert (error["status"], error["field"]) == (422, field)
            assert f"did you mean '{meant}'?" in error["reason"]
        assert await queued(backend) == 1


JSON_TYPE = {"content-type": "application/json"}
TWICE = (
    '{"flow_name": "quick", "tag": "a", "tag": "b"}',
    '{"flow_name": "quick", "\\u0074ag": "a", "tag": "b"}',
    '{"flow_name": "quick", "tag": "a", "tag": "a"}',
    '{"flow_name": "quick", "params": {"tag": 1, "n": 12345678901234567890123, "tag": 2}}',
    '{"flow_name": "quick", "params": {"x": [{"y": [], "tag": {}, "tag": {}}]}}',
)


async def test_a_key_that_is_given_twice_is_refused_by_its_name(tmp_path: Path) -> None:
    async with gateway(tmp_path, worker=False) as (client, backend):
        for text in TWICE:
            alone = await client.post("/runs", content=text, headers=JSON_TYPE)
            assert alone.status_code == 422, alone.text
            runs = f'{{"runs": [{text}, {json.dumps(RUN)}]}}'
            batch = await client.post("/runs/batch", content=runs, headers=JSON_TYPE)
            assert batch.json()["accepted"] == 1, "one that is wrong spoils no other"
            for error in (alone.json(), batch.json()["items"][0]["error"]):
                assert "key 'tag' is given twice" in error["reason"]
        assert await queued(backend) == len(TWICE)
        whole = f'{{"runs": [], "runs": [{json.dumps(RUN)}]}}'
        refused = await client.post("/runs/batch", content=whole, headers=JSON_TYPE)
        assert refused.status_code == 422
        assert "key 'runs' is given twice" in refused.json()["reason"]


async def test_the_neighbours_of_submissions_take_no_key_twice(tmp_path: Path) -> None:
    async with gateway(tmp_path, worker=False) as (client, _):
        form = yaml_form(YAML, params='{"x": 5, "x": 6}')
        refused = await client.post("/runs/yaml", **form)
        assert (refused.status_code, refused.json()["field"]) == (422, "params")
        assert "key 'x' is given twice" in refused.json()["reason"]
        for method, path, text in (
            ("PATCH", "/workers/w", '{"hidden": true, "hidden": false}'),
            (
                "POST",
                "/schedules",
                '{"schedule_id": "s", "cron": "1 * * * *", "cron": "2 * * * *"}',
            ),
        ):
            refused = await client.request(method, path, content=text, headers=JSON_TYPE)
            assert refused.status_code == 422, refused.text
            assert "is given twice" in refused.json()["reason"]


async def test_the_neighbours_of_submissions_know_know_their_fields(tmp_path: Path) -> None:
    async with gateway(tmp_path, worker=False) as (client, _):
        refused = await client.post("/runs/batch", json={"runs": [RUN], "run": []})
        assert "did you mean 'runs'?" in refused.json()["reason"]
        wheel = {"wheel": ("a-1.0-py3-none-any.whl", b"x")}
        refused = await client.post("/wheels", files=wheel, data={"tag": "gpu"})
        assert (refused.status_code, refused.json()["field"]) == (422, "tag")
        assert "did you mean 'tags'?" in refused.json()["reason"]
        refused = await client.patch("/workers/w", json={"hidden": True, "hide": 1})
        assert refused.status_code == 422
        more = {"workflow": ("flow.yaml", YAML), "params": ("p.json", b"{}")}
        refused = await client.post("/runs/yaml", files=more, data={"flow_name": "main"})
        assert refused.status_code == 422


async def test_a_route_without_a_body_refuses_one(tmp_path: Path) -> None:
    async with gateway(tmp_path, worker=False) as (client, _):
        for (method, path), operation in known_operations().items():
            # 0.5.1 ignores what comes with the deletion of a wheel.
            if method in {"POST", "DELETE"} and not operation.body and path != "/wheels/{name}":
                url = path.format(seq=1, schedule_id="s")
                refused = await client.request(method, url, json={"params": {}})
                assert (refused.status_code, refused.json()["field"]) == (422, "params"), url
                assert (await client.request(method, url, json={})).status_code == 404, url


def form_of(*parts: tuple[str, bytes], end: bytes = b"--b--\r\n") -> dict[str, Any]:
    body = b"".join(
        b'--b\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n' % (name.encode(), value)
        for name, value in parts
    )
    return {
        "content": body + end,
        "headers": {"content-type": "multipart/form-data; boundary=b"},
    }


FILE = ('workflow"; filename="flow.yaml', YAML)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda body: body.removesuffix(b"--b--\r\n"),
        lambda body: body.removesuffix(b"\r\n--b--\r\n"),
        lambda body: body[:-20],
        lambda body: body[: len(body) // 2],
        lambda body: body.replace(b"--b--", b"--c--"),
    ],
)
async def test_a_form_that_breaks_off_is_refused(
    tmp_path: Path, spoil: Callable[[bytes], bytes]
) -> None:
    async with gateway(tmp_path, worker=False) as (client, backend):
        whole = form_of(FILE, ("flow_name", b"main"), ("tag", TAG.encode()))
        assert (await client.post("/runs/yaml", **whole)).status_code == 200
        broken = {**whole, "content": spoil(whole["content"])}
        for path in ("/runs/yaml", "/wheels"):
            refused = await client.post(path, **broken)
            assert refused.status_code == 422, path
        assert await queued(backend) == 1


@pytest.mark.parametrize("path", ["/runs/yaml", "/wheels"])
async def test_a_boundary_that_is_too_long_is_never_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    looked_for: list[bytes] = []

    def decoder(boundary: bytes, *args: Any, **options: Any) -> MultipartDecoder:
        looked_for.append(boundary)
        return MultipartDecoder(boundary, *args, **options)

    monkeypatch.setattr(forms, "MultipartDecoder", decoder)
    monkeypatch.chdir(tmp_path)
    client = described_app()[0].test_client()
    content = form_of(FILE)["content"]

    async def reason(boundary: str) -> str:
        headers = {"content-type": f"multipart/form-data; boundary={boundary}"}
        data = content.replace(b"--b", f"--{boundary}".encode())
        answer = await client.post(path, headers=headers, data=data)
        said = await answer.get_json()
        assert answer.status_code == 422
        return f"{said['detail']}: {said.get('reason')}"

    refusal = "invalid multipart body: its boundary is longer than 70 bytes"
    assert await reason("b" * 70) != refusal
    assert looked_for == [b"b" * 70]
    assert await reason("b" * 71) == refusal
    assert looked_for == [b"b" * 70]


async def test_a_large_form_is_read_beside_other_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = threading.get_ident()
    waited: list[bool] = []
    feed = forms._Reader.feed

    def told(reader: forms._Reader, decoder: MultipartDecoder, data: bytes) -> None:
        if data:
            waited.append(threading.get_ident() == loop)
        feed(reader, decoder, data)

    monkeypatch.setattr(forms._Reader, "feed", told)
    client = described_app()[0].test_client()
    for text in (b"", b"#" * 100_000):
        form = form_of((FILE[0], text))
        answer = await client.post("/runs/yaml", headers=form["headers"], data=form["content"])
        assert (await answer.get_json())["detail"] == "invalid workflow yaml"
    assert waited == [True, False]


async def test_a_part_is_taken_once_and_as_it_is(tmp_path: Path) -> None:
    async with gateway(tmp_path, worker=False) as (client, _):
        tag = ("tag", TAG.encode())
        for parts in ([FILE, tag, tag], [FILE, FILE, tag], [FILE, ("tag", b"\xff")]):
            form = form_of(("flow_name", b"main"), *parts)
            refused = await client.post("/runs/yaml", **form)
            assert refused.status_code == 422
            assert refused.json()["detail"] == "invalid multipart body"
        text = form_of(("workflow", YAML), tag, ("flow_name", b"main"))
        refused = await client.post("/runs/yaml", **text)
        assert "must be a file" in refused.json()["reason"]


MISREAD = [
    ("ä".encode("latin-1"), "Content-Type: text/plain; charset=ISO-8859-1", "is not UTF-8"),
    ("あ".encode("iso-2022-jp"), "Content-Type: text/plain; charset=iso-2022-jp", "is not UTF-8"),
    ("t".encode("utf-16-le"), "Content-Type: text/plain; charset=utf-16-le", "is not UTF-8"),
    (b"quick", "Content-Type: text/plain; charset=klingon", "is not UTF-8"),
    (b"cXVpY2s=", "Content-Transfer-Encoding: base64", "is encoded as base64"),
    (b"quick", 'Content-Disposition: form-data; filename="t"; name="tag"', "not expected|a text"),
    (b"quick", "Content-Disposition: form-data", "has no name"),
]


async def test_a_part_that_would_be_read_as_something_else_is_refused(tmp_path: Path) -> None:
    form = form_of(FILE, ("flow_name", b"main"))
    async with gateway(tmp_path, worker=False) as (client, _):
        for path, tag in (("/runs/yaml", "tag"), ("/wheels", "tags")):
            named = f'Content-Disposition: form-data; name="{tag}"\r\n'
            for value, headers, reason in MISREAD:
                head = headers if "Disposition" in headers else named + headers
                part = b"--b\r\n%b\r\n\r\n%b\r\n" % (head.encode(), value)
                refused = await client.post(path, **{**form, "content": part + form["content"]})
                said = refused.json()
                assert (refused.status_code, said["detail"]) == (422, "invalid multipart body")
                assert re.search(reason, said["reason"]), said


def test_a_charset_does_not_keep_the_gateway_busy() -> None:
    headers = Headers({"Content-Type": "text/plain; charset=punycode"})

    def read() -> None:
        with pytest.raises(ValueError, match="is not UTF-8"):
            text_of("tag", bytearray(b"-" + b"a" * 600_000), headers)

    assert_cheap(read)


async def test_what_says_the_same_in_utf_8_is_taken(tmp_path: Path) -> None:
    """As Java's clients send a field."""
    form = form_of(FILE, ("flow_name", b"main"))
    form["content"] = (
        b'--b\r\nContent-Disposition: form-data; name="tag"\r\n'
        b"Content-Type: text/plain; charset=ISO-8859-1\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
        + TAG.encode() + b"\r\n" + form["content"]
    )  # fmt: skip
    async with gateway(tmp_path, worker=False) as (client, backend):
        answer = await client.post("/runs/yaml", **form)
        assert answer.status_code == 200, answer.text
        assert await queued(backend) == 1


async def test_what_0_5_1_sends_is_taken(tmp_path: Path) -> None:
    """Its client's calls, as http_client.py of 0.5.1 makes them."""
    async with gateway(tmp_path, worker=False) as (client, _):
        run = {"flow_name": "quick", "params": {}, "tag": TAG, "tags": [TAG]}
        assert (await client.post("/runs", json=run)).status_code == 200
        files = {"workflow": ("flow.yaml", YAML, "application/x-yaml")}
        data = {"flow_name": "main", "tag": TAG}
        assert (await client.post("/runs/yaml", files=files, data=data)).status_code == 200


def test_the_command_sends_params_along_with_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[bytes] = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(request.read())
        return httpx.Response(200, json={"run_id": "r", "status": "PENDING"})

    monkeypatch.setattr(httpx.HTTPTransport, "handle_request", lambda _, request: answer(request))
    (tmp_path / "flow.yaml").write_bytes(YAML)
    (tmp_path / "params.yaml").write_text("x: 1\ny: 1\nz: 1\n")
    argv = ["submit-yaml", "--workflow-file", str(tmp_path / "flow.yaml"), "--tag", TAG]
    argv += ["--params-file", str(tmp_path / "params.yaml"), "--params", '{"y": 2, "z": 2}']
    result = CliRunner().invoke(app, [*argv, "--param", "z=3"])
    assert result.exit_code == 0, result.output
    assert b'{"x":1,"y":2,"z":3}' in sent[0]


def test_a_file_of_params_is_read_as_a_flow_file_is(tmp_path: Path) -> None:
    for text in ("when: 10:30", "mode: 0644", "go: yes", "n: 1_000", "lr: 1e-3"):
        (tmp_path / "params.yaml").write_text(text)
        argv = ["submit", "--params-file", str(tmp_path / "params.yaml")]
        result = CliRunner().invoke(app, argv)
        assert result.exit_code == 1
        assert "quote it" in str(result.exception.__dict__) + result.output


@pytest.mark.parametrize(
    "argv",
    [
        ["submit", "--params", '{"x": 1, "x": 2}'],
        ["submit", "--param", 'x={"x": 1, "x": 2}'],
        ["submit", "--params-file", "params.json"],
        ["submit", "--params-file", "params.yaml"],
        ["submit", "--batch-file", "runs.jsonl"],
        ["schedule", "apply", "--file", "schedules.yaml"],
    ],
)
def test_a_command_takes_no_key_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, argv: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("params.json").write_text('{"a": {"x": 1, "x": 2}}')
    Path("params.yaml").write_text("a:\n  x: 1\n  x: 2\n")
    Path("runs.jsonl").write_text('{"flow_name": "quick", "params": {"x": 1, "x": 2}}\n')
    Path("schedules.yaml").write_text("schedules:\n  x: {cron: '* * * * *'}\n  x: {every_sec: 5}\n")
    result = CliRunner().invoke(app, argv)
    assert result.exit_code == 1
    said = str(getattr(result.exception, "__dict__", "")) + str(result.exception) + result.output
    assert "is given twice" in said


def test_keys_that_are_merged_may_be_said_otherwise(tmp_path: Path) -> None:
    text = "a: &a {x: 1, y: 1}\nb: &b {<<: *a, x: 2}\nc: {<<: *b, x: 3, y: 3}\n"
    (tmp_path / "params.yaml").write_text(text)
    params = collect_params(tmp_path / "params.yaml", None, None)
    assert params["c"] == {"x": 3, "y": 3}
    assert params["b"] == {"x": 2, "y": 1}
