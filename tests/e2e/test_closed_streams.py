"""Programs that are started without standard streams, as some supervisors do it."""

from __future__ import annotations

from e2e.programs import BIN, Stage


def test_a_worker_without_them_works(stage: Stage) -> None:
    stage.nats()
    stage.run(
        *("/bin/sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", str(BIN / "pyoco-worker")),
        *("--run-once", "--poll-timeout", "0.1", "--nats-url", stage.nats_url),
    )
