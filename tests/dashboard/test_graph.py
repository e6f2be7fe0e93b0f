"""The picture of a flow: it fits, is zoomed and folded, and no edge goes behind a task."""

from __future__ import annotations

import re

from playwright.sync_api import Page, expect

from dashboard.browsing import Dashboard
from dashboard.world import World


def flow(graph: str, names: list[str]) -> str:
    tasks = "".join(f"  {name}: {{callable: 'dash_tasks:say'}}\n" for name in names)
    lines = "".join(f"    {line}\n" for line in graph.splitlines())
    return f"flow:\n  graph: |\n{lines}  defaults: {{text: x}}\ntasks:\n{tasks}"


CHAIN = [f"step_{number}" for number in range(7)]
WIDE = [f"part_{number:02}" for number in range(25)]
MANY = [f"many_{number:03}" for number in range(80)]

# Points on edges that are within a task, apart from its border.
CROSSINGS = """() => {
  const rects = [...document.querySelectorAll(".graph .node > rect:not(.behind)")];
  const boxes = rects.map((rect) => rect.getBBox());
  const inside = ({ x, y }, box) => {
    const [right, bottom] = [box.x + box.width, box.y + box.height];
    return x > box.x + 2 && x < right - 2 && y > box.y + 2 && y < bottom - 2;
  };
  const found = [];
  for (const path of document.querySelectorAll(".graph path.edge")) {
    for (let at = 0; at <= path.getTotalLength(); at += 3) {
      const point = path.getPointAtLength(at);
      if (boxes.some((box) => inside(point, box))) found.push([point.x, point.y]);
    }
  }
  return found;
}"""

# Whether all of the picture is on the screen.
FITS = """() => {
  const { scrollWidth, clientWidth, scrollHeight, clientHeight } = document.querySelector(".graph");
  return scrollWidth <= clientWidth + 1 && scrollHeight <= clientHeight + 1;
}"""


def drawn(dashboard: Dashboard, world: World, text: str) -> Page:
    run_id = world.submit(text)
    world.reaches(run_id, "COMPLETED")
    page = dashboard.open(f"runs/{run_id}")
    expect(page.locator(".graph .node").first).to_have_attribute("data-state", "SUCCEEDED")
    return page


def test_a_picture_fits_whatever_the_width(dashboard: Dashboard, world: World) -> None:
    shapes = {
        "chain": (flow(" >> ".join(CHAIN), CHAIN), 7),
        "skips": (flow("a >> b >> c >> d\na >> d\nb >> d\na >> x >> d", [*"abcdx"]), 5),
        "wide": (flow(f"a >> ({' & '.join(WIDE)}) >> d", ["a", *WIDE, "d"]), 27),
    }
    for name, (text, count) in shapes.items():
        page = drawn(dashboard, world, text)
        expect(page.locator(".graph .node")).to_have_count(count)
        for width in (390, 768, 1280, 1920):
            page.set_viewport_size({"width": width, "height": 860})
            page.wait_for_function(FITS)
            assert page.evaluate(CROSSINGS) == [], (name, width)


def test_it_is_zoomed_moved_and_folded(dashboard: Dashboard, world: World) -> None:
    page = drawn(dashboard, world, flow(f"a >> ({' & '.join(MANY)}) >> d", ["a", *MANY, "d"]))
    # So many are one node until they are wanted.
    nodes = page.locator(".graph .node")
    expect(nodes).to_have_count(3)
    pack = page.get_by_role("button", name="80 tasks side by side")
    expect(pack).to_contain_text("80 succeeded")
    expect(page.locator(".minimap")).to_be_hidden()
    pack.focus()
    page.keyboard.press("Enter")
    expect(nodes).to_have_count(82)
    assert page.evaluate(CROSSINGS) == []
    expect(page.locator(".minimap")).to_be_visible()
    dashboard.button("Fit").click()
    page.wait_for_function(FITS)
    expect(page.locator(".minimap")).to_be_hidden()
    dashboard.button("Larger").click()
    dashboard.button("Larger").click()
    expect(page.locator(".minimap")).to_be_visible()
    page.locator(".minimap").click(position={"x": 20, "y": 3})
    page.wait_for_function("() => document.querySelector('.graph').scrollTop < 60")
    page.locator(".graph .fold").press("Enter")
    expect(nodes).to_have_count(3)

    page.locator('.graph [data-task="d"]').click()
    expect(page).to_have_url(re.compile("task=d"))
    expect(page.locator('.graph [data-task="d"]')).to_have_class("node chosen")
    page.get_by_role("tab", name="Logs").click()
    expect(page).to_have_url(re.compile("tab=logs"))
    page.reload()
    expect(page.get_by_role("tab", name="Logs")).to_have_attribute("aria-selected", "true")
    expect(page.locator("#log-task")).to_have_value("d")
