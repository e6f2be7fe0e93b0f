"""What every answer tells a browser not to do."""

from __future__ import annotations

from pathlib import Path

from http_api.test_skeleton import gateway


async def test_pages_load_nothing_foreign_and_are_not_framed(tmp_path: Path) -> None:
    async with gateway(tmp_path, worker=False) as (client, _):
        for path in ("/", "/docs", "/runs", "/openapi.json", "/nothing"):
            answer = await client.get(path)
            policy = answer.headers["content-security-policy"]
            assert "default-src 'none'" in policy, path
            assert "frame-ancestors 'none'" in policy, path
            assert "unsafe" not in policy, path
            assert "//" not in policy, path
            assert answer.headers["x-content-type-options"] == "nosniff", path
