"""Small SVG plots, readable on a light and on a dark page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Final

COLOURS: Final = ("#2a78d6", "#8a8f98", "#d9822b")
_WIDTH: Final = 720
_LABELS: Final = 210
_BAR: Final = 14
_TEXT: Final = 'font-family="system-ui, sans-serif" font-size="12" fill="#7a808a"'


def bars(title: str, rows: Mapping[str, Mapping[str, float | None]]) -> str:
    """Bars of each row's systems, one below the other; each row has a scale of its own.

    Args:
        title: What they show.
        rows: By what is measured and by system; what is ``None`` has no bar.
    """
    drawn, y = [], 34
    for label, systems in rows.items():
        found = {name: value for name, value in systems.items() if value is not None}
        if not found:
            continue
        drawn.append(
            f'<text x="{_LABELS - 10}" y="{y + 11}" text-anchor="end">{escape(label)}</text>'
        )
        for name, value in found.items():
            colour = COLOURS[list(systems).index(name)]
            width = max(1, (_WIDTH - _LABELS - 110) * value / max(found.values()))
            drawn.append(
                f'<rect x="{_LABELS}" y="{y}" width="{width:.0f}" height="{_BAR - 2}" rx="2"'
                f' fill="{colour}"/>'
                f'<text x="{_LABELS + width + 6:.0f}" y="{y + 10}">{escape(name)} {_number(value)}</text>'
            )
            y += _BAR
        y += 10
    return _svg(title, y, drawn)


def lines(title: str, places: Sequence[str], rows: Mapping[str, Sequence[float | None]]) -> str:
    """Lines over places that stand side by side, from nought up.

    Args:
        title: What they show.
        places: What stands below.
        rows: A value for each place, or ``None``.
    """
    top = max((value for row in rows.values() for value in row if value is not None), default=1)
    left, right, high, low = 60, _WIDTH - 120, 40, 200
    step = (right - left) / max(1, len(places) - 1)
    drawn = [
        f'<text x="{left + n * step:.0f}" y="{low + 20}" text-anchor="middle">{escape(place)}</text>'
        for n, place in enumerate(places)
    ]
    drawn += [
        f'<line x1="{left}" y1="{y}" x2="{right}" y2="{y}" stroke="#7a808a" stroke-opacity="0.3"/>'
        f'<text x="{left - 8}" y="{y + 4}" text-anchor="end">{value}</text>'
        for y, value in ((low, "0"), (high, _number(top)))
    ]
    for (name, row), colour in zip(rows.items(), COLOURS, strict=False):
        points = [
            (left + n * step, low - (low - high) * value / top)
            for n, value in enumerate(row)
            if value is not None
        ]
        if not points:
            continue
        path = " ".join(f"{x:.0f},{y:.1f}" for x, y in points)
        x, y = points[-1]
        drawn.append(
            f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>'
            f'<text x="{x + 8:.0f}" y="{y + 4:.1f}">{escape(name)}</text>'
        )
    return _svg(title, low + 34, drawn)


def _svg(title: str, height: float, drawn: Sequence[str]) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height:.0f}" role="img">\n'
        f"<title>{escape(title)}</title>\n<g {_TEXT}>\n"
        f'<text x="10" y="20" font-weight="600">{escape(title)}</text>\n'
        + "\n".join(drawn)
        + "\n</g>\n</svg>\n"
    )


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
