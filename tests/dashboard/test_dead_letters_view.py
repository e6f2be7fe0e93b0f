"""Dead letters."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Iterable
from urllib.parse import parse_qs, urlsplit

from playwright.sync_api import Page, Route, expect

from dashboard import flows
from dashboard.browsing import Dashboard
from dashboard.world import World


def test_look_requeue_and_drop(dashboard: Dashboard, world: World) -> None:
    run_id = world.submit(flows.failing("the disk is full"))
    world.reaches(run_id, "FAILED")
    world.put_letter(reason="invalid_job", error="not JSON", payload="{broken")
    page = dashboard.open("dlq")
    # By its link: the letter of the run that repeats it names it as well.
    letter = page.locator("tr", has=page.get_by_role("link", name=run_id[:8]))
    expect(letter).to_contain_text("the flow failed")
    letter.locator("summary").click()
    expect(letter.locator("pre")).to_contain_text(f'"run_id": "{run_id}"')

    broken = page.locator("tr", has_text="not JSON")
    expect(broken.get_by_role("button", name="Run again")).to_be_disabled()
    broken.get_by_role("button", name="Drop").click()
    dashboard.dialog_button("Drop").click()
    expect(broken).to_have_count(0)

    letter.get_by_role("button", name="Run again").click()
    expect(dashboard.toast).to_contain_text("Runs again as")
    again = re.search(r"[0-9a-f-]{36}", dashboard.toast.inner_text())
    assert again is not None
    assert world.stage.get(again.group())["retry_of"] == run_id
    expect(letter).to_have_count(0)

    page.get_by_label("Reason").select_option("worker_crashed")
    expect(page).to_have_url(re.compile("reason=worker_crashed"))
    expect(page.locator(".empty")).to_contain_text("No dead letters")


def test_what_was_asked_before_is_not_shown_under_another_reason(
    dashboard: Dashboard, world: World
) -> None:
    mark = uuid.uuid4().hex[:8]
    world.put_letter(reason="invalid_job", error=f"torn {mark}")
    page = dashboard.open("dlq")
    expect(page.locator("tr", has_text=mark)).to_be_visible()
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    page.route(re.compile(r"/dlq\?reason=invalid_job"), hold)
    with page.expect_request(re.compile("reason=invalid_job")):
        page.get_by_label("Reason").select_option("invalid_job")
    page.clock.install()
    page.clock.pause_at(time.time() + 1)  # no next look by itself
    page.get_by_label("Reason").select_option("worker_crashed")
    with page.expect_request(re.compile("reason=worker_crashed")):
        held[0].continue_()
    expect(page.locator(".empty")).to_contain_text("No dead letters")


class Letters:
    """What the gateway says of a stream of dead letters, of which some are wanted."""

    def __init__(self, page: Page, last_seq: int, wanted: Iterable[int]) -> None:
        self.last_seq = last_seq
        self.wanted = [*wanted]
        self.rows = page.locator("tr[data-seq]")
        page.route(re.compile(r"/dlq\?"), self.answer)

    def answer(self, route: Route) -> None:
        query = parse_qs(urlsplit(route.request.url).query)
        high = int(query["cursor"][0]) - 1 if "cursor" in query else self.last_seq
        low = max(1, high + 1 - 20_000)  # as far as it looks
        found = [seq for seq in reversed(self.wanted) if low <= seq <= high][:50]
        begin = found[-1] if len(found) == 50 else low
        items = [
            {"seq": seq, "timestamp": time.time(), "reason": "timeout", "error": f"letter {seq}"}
            for seq in found
        ]
        route.fulfill(json={"items": items, "next_cursor": str(begin) if begin > 1 else None})


def test_letters_that_came_between_two_looks_are_all_found(dashboard: Dashboard) -> None:
    page = dashboard.page
    letters = Letters(page, 60, range(1, 61))
    dashboard.open("dlq")
    expect(letters.rows).to_have_count(50)
    older = dashboard.button("Older ones")
    older.click()
    expect(letters.rows).to_have_count(60)
    expect(older).to_be_hidden()

    letters.last_seq, letters.wanted = 130, [*range(1, 131)]
    expect(letters.rows).to_have_count(50)
    older.click()
    expect(letters.rows).to_have_count(100)
    # They stay with those that follow.
    letters.last_seq, letters.wanted = 131, [*range(1, 132)]
    expect(letters.rows).to_have_count(101)
    older.click()
    expect(letters.rows).to_have_count(131)
    expect(older).to_be_hidden()


def test_letters_that_are_none_of_the_newest_are_found_and_stay(dashboard: Dashboard) -> None:
    page = dashboard.page
    letters = Letters(page, 45_000, [5])
    page.clock.install()
    dashboard.open("dlq")
    expect(page.get_by_text("None among the newest; there may be older ones.")).to_be_visible()

    def look_again() -> None:
        with page.expect_event("requestfinished", lambda each: each.url.endswith("limit=50")):
            page.clock.fast_forward(5000)
        page.evaluate("() => new Promise((end) => setTimeout(() => requestAnimationFrame(end)))")

    for cursor in ("25001", "5001"):
        with page.expect_request(re.compile(f"cursor={cursor}")):
            dashboard.button("Older ones").click()
        look_again()
    expect(letters.rows).to_have_count(1)
    look_again()
    assert letters.rows.count() == 1
