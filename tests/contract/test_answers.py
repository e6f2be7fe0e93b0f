"""Each route's answer is read against the API description once, with nothing missing and nothing more."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from contract.populated import Population, populate, write_letter
from contract.test_tenants import names
from http_api.answers import SEEN, known_operations
from http_api.gateway import YAML, gateway, yaml_form
from http_api.keyed import KEYED, as_key, key_for
from wheels.making import file_name, wheel_bytes

RUN = {"flow_name": "f"}
SCHEDULE = {"flow_name": "f", "every_sec": 60}
# What is sent to routes that read a body.
SENT: dict[tuple[str, str], dict[str, Any]] = {
    ("POST", "/runs"): {"json": RUN},
    ("POST", "/runs/yaml"): yaml_form(),
    ("POST", "/runs/batch"): {"json": {"runs": [RUN, {"flow_name": ""}]}},
    ("POST", "/flows/check"): {"content": YAML},
    ("PATCH", "/runs/{run_id}"): {"json": {"delay_sec": 60}},
    ("POST", "/schedules"): {"json": SCHEDULE},
    ("POST", "/schedules/preview"): {"json": SCHEDULE},
    ("POST", "/schedules/{schedule_id}/backfill"): {"json": {"from": 0, "to": 0}},
    ("PUT", "/schedules/{schedule_id}"): {"json": SCHEDULE},
    ("PATCH", "/schedules/{schedule_id}"): {"json": {"name": "another"}},
    ("PATCH", "/workers/{worker_id}"): {"json": {"hidden": False}},
    ("POST", "/wheels"): {"files": {"wheel": (file_name("other"), wheel_bytes("other"))}},
}
# Further ways to ask, whose answers have other parts.
ASKED = {
    "/runs": ("", "?include=full", "?cursor=", "?cursor=&include=full", "?counts=1"),
    "/runs/counts": ("", "?submitted_after=0&steps=2"),
    "/runs/{run_id}": ("", "?include=records"),
    "/runs/{run_id}/logs": ("", "?tail=3"),
    "/stats": ("", "?percentiles=1"),
    "/workers": ("?scope=all",),
}
_ORDER = ("GET", "PATCH", "POST", "PUT", "DELETE")


async def test_every_answer_is_as_it_is_described(tmp_path: Path) -> None:
    SEEN.clear()
    async with gateway(tmp_path, worker=False, **KEYED) as (client, backend):
        key, _ = await key_for(backend, "a")
        there: Population = await populate(client, backend, key, "a")
        routes = sorted(known_operations(), key=lambda route: (_ORDER.index(route[0]), route[1]))
        wanted = set()
        for method, path in routes:
            operation = known_operations()[method, path]
            if "application/json" not in operation.answer:
                continue
            wanted.add((method, path, 200))
            given = names(there, path)
            if (method, path) == ("PATCH", "/runs/{run_id}"):
                given["run_id"] = there.pending
            if path.startswith("/dlq/{"):
                given["seq"] = str(await write_letter(backend, there.ended, "a"))
            for query in ASKED.get(path, ("",)) if method == "GET" else ("",):
                url = path.format(**given) + query
                sent = SENT.get((method, path), {})
                answer = await client.request(method, url, headers=as_key(key), **sent)
                assert answer.status_code == 200, (method, url, answer.text)
    assert wanted <= SEEN
