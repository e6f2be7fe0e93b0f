"""What was measured: the rows there are, and the samples of each."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias

OURS: Final = "ours"
OLD: Final = "0.5.1"
CELERY: Final = "Celery"
SYSTEMS: Final = (OURS, OLD, CELERY)

Measures: TypeAlias = Mapping[str, float | str]
"""What a case found, by row: a figure, or a few words on why there is none."""


class Row(NamedTuple):
    """What a figure means."""

    title: str
    unit: str
    more_is_better: bool = False


class Group(NamedTuple):
    """Rows that belong together, by the name that they have in the JSON."""

    title: str
    rows: dict[str, Row]


GROUPS: Final = (
    Group(
        "Submitting",
        {
            "submit.one": Row("`POST /runs`, 1 client, p50", "ms"),
            "submit.many": Row("`POST /runs`, 32 clients", "runs/s", True),
            "submit.batch": Row("`POST /runs/batch`, 500 runs each", "runs/s", True),
        },
    ),
    Group(
        "From submission to the known end",
        {
            "end.noop": Row("no-op, p50", "ms"),
            "end.pause": Row("20 ms task, p50", "ms"),
        },
    ),
    Group(
        "Draining a full queue with 4 slots",
        {
            "drain.noop": Row("no-ops", "runs/s", True),
            "drain.pause": Row("20 ms tasks (200 is the limit)", "runs/s", True),
            "work.gateway": Row("processor time a no-op: gateway", "ms"),
            "work.worker": Row("… worker with its children", "ms"),
            "work.store": Row("… nats-server, redis-server", "ms"),
        },
    ),
    Group(
        "Reading, p50",
        {
            f"read.{kind}.{count}": Row(f"{title}, {count:,} runs", "ms")
            for kind, title in (
                ("list", "page of 50"),
                ("filtered", "page of one status"),
                ("metrics", "`/metrics`"),
            )
            for count in (1_000, 10_000, 100_000)
        }
        | {
            "watch.p50": Row("write to event, 1,000 watchers, p50", "ms"),
            "watch.p99": Row("… p99", "ms"),
        },
    ),
    Group(
        "Upkeep",
        {
            "memory.gateway": Row("memory of the gateway", "MiB"),
            "memory.worker": Row("memory of a worker with 4 slots and their children", "MiB"),
            "memory.filled": Row("memory of the gateway after the reading above", "MiB"),
            "idle.gateway": Row("idle gateway", "% of a core"),
            "idle.worker": Row("idle worker with 4 slots", "% of a core"),
            "cold.gateway": Row("start of the gateway, until it is ready", "s"),
            "cold.worker": Row("start of a worker, until its first run has ended", "s"),
            "wheel.upload": Row("upload of a wheel of 100 MB", "s"),
            "wheel.download": Row("… download", "s"),
            "wheel.memory": Row("… memory of the gateway at its most", "MiB"),
            "command.help": Row("processor time of `pyoco-client --help`", "s"),
            "command.list": Row("… of `pyoco-client list`", "s"),
            "command.metrics": Row("… of `pyoco-client metrics`", "s"),
        },
    ),
    Group(
        "The client of this benchmark",
        {
            "client.one": Row("its processor time a `POST /runs`, 1 client", "ms"),
            "client.many": Row("… 32 clients", "ms"),
        },
    ),
)
ROWS: Final = {name: row for group in GROUPS for name, row in group.rows.items()}


@dataclass
class Figures:
    """Samples of each row and system, one a round.

    Attributes:
        samples: By row and system.
        words: Why there is none, likewise.
        about: The machine, the versions and how often was measured.
    """

    samples: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    words: dict[str, dict[str, str]] = field(default_factory=dict)
    about: dict[str, Any] = field(default_factory=dict)

    def add(self, system: str, measures: Measures) -> None:
        """Take what a case found; the last words on a row are kept.

        Raises:
            KeyError: There is no such row.
        """
        for name, found in measures.items():
            if name not in ROWS:
                raise KeyError(name)
            if isinstance(found, str):
                self.words.setdefault(name, {})[system] = found
            else:
                self.samples.setdefault(name, {}).setdefault(system, []).append(found)

    def middle(self, name: str, system: str) -> float | None:
        """The median over the rounds."""
        found = self.samples.get(name, {}).get(system)
        return statistics.median(found) if found else None

    def ratio(self, name: str, system: str) -> float | None:
        """Ours over another system's: the median of the ratios of each round, which had the same noise."""
        ours, others = (self.samples.get(name, {}).get(each, []) for each in (OURS, system))
        pairs = [a / b for a, b in zip(ours, others, strict=False) if b]
        return statistics.median(pairs) if pairs else None

    def as_json(self) -> str:
        """All of it."""
        document = {"about": self.about, "samples": self.samples, "words": self.words}
        return json.dumps(document, indent=1, ensure_ascii=False) + "\n"

    @classmethod
    def read(cls, path: Path) -> Figures:
        """What `as_json` wrote."""
        return cls(**json.loads(path.read_text()))


def about_this(**more: Any) -> dict[str, Any]:
    """The machine and the checkout."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    described = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    return {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "processor": model,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "load": round(os.getloadavg()[0], 1),
        "commit": described.stdout.strip(),
        **more,
    }
