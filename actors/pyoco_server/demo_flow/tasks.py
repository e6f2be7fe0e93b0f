"""The tasks of the demonstration flow. They need no network and always come to the same result."""

# ruff: noqa: T201 - printing is what there is to watch

from __future__ import annotations

import time
from typing import TypedDict

from pyoco import task
from pyoco.core.context import Context

_TEMPERATURES = {
    "Naha": (21.4, 22.9, 24.6, 23.8, 22.3),
    "Osaka": (11.2, 14.8, 18.1, 17.0, 13.4),
    "Sapporo": (1.9, 4.6, 8.3, 7.1, 3.6),
}
_SECONDS_A_READING = 0.3


class Plan(TypedDict):
    """What is to be read."""

    day: str
    readings: int


class StationReport(TypedDict):
    """What a station told, in degrees Celsius."""

    station: str
    highest: float
    mean: float


class Summary(TypedDict):
    """What the stations told together, in degrees Celsius."""

    warmest: str
    coldest: str
    highest: float
    lowest_high: float
    mean: float


class LineDown(ConnectionError):
    """The line to a station broke."""


def plan(day: str = "2024-04-01") -> Plan:
    """Decide how often to read each station."""
    readings = 5
    print(f"Weather of {day}: {len(_TEMPERATURES)} stations, {readings} readings each")
    time.sleep(0.5)
    return Plan(day=day, readings=readings)


def read_station(station: str, readings: int) -> StationReport:
    """Read the temperature at a station, one reading after the other."""
    values = []
    for hour, degrees in zip(range(6, 24, 3), _TEMPERATURES[station][:readings], strict=False):
        time.sleep(_SECONDS_A_READING)
        print(f"{station} at {hour:02}:00: {degrees:4.1f} °C")
        values.append(degrees)
    return StationReport(
        station=station, highest=max(values), mean=round(sum(values) / len(values), 1)
    )


@task
def read_station_over_a_bad_line(station: str, readings: int, ctx: Context) -> StationReport:
    """Read a station whose line breaks on the first try of each run."""
    tries = ctx.scratch[f"{station}.tries"] = ctx.scratch.get(f"{station}.tries", 0) + 1
    if tries == 1:
        time.sleep(_SECONDS_A_READING)
        print(f"{station}: the line broke after {_SECONDS_A_READING:.1f} s")
        raise LineDown(f"no answer from {station}")
    print(f"{station}: try {tries}, the line is up again")
    return read_station(station, readings)


# pyoco has this on the task and not in flow.yaml; a worker keeps it when a flow.yaml names the task.
read_station_over_a_bad_line.task.retries = 2


def compare(stations: list[str], ctx: Context) -> Summary:
    """Compare what the stations told; their tasks are named for them."""
    reports: list[StationReport] = [ctx.get_result(station.lower()) for station in stations]
    by_warmth = sorted(reports, key=lambda report: report["highest"])
    for report in reversed(by_warmth):
        print(f"{report['station']:8} {'▇' * round(report['highest'])} {report['highest']:.1f} °C")
    time.sleep(0.3)
    return Summary(
        warmest=by_warmth[-1]["station"],
        coldest=by_warmth[0]["station"],
        highest=by_warmth[-1]["highest"],
        lowest_high=by_warmth[0]["highest"],
        mean=round(sum(report["mean"] for report in reports) / len(reports), 1),
    )


def bulletin(summary: Summary, day: str = "2024-04-01") -> str:
    """Write the bulletin."""
    text = (
        f"{day}: warmest in {summary['warmest']} ({summary['highest']:.1f} °C), "
        f"coldest in {summary['coldest']} ({summary['lowest_high']:.1f} °C), "
        f"{summary['mean']:.1f} °C on average."
    )
    print(text)
    return text
