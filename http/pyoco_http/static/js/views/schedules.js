// Schedules: what runs when, what is due in the next day, and a new one.

import { get, send } from "../api.js";
import { h, replace } from "../dom.js";
import { t } from "../i18n.js";
import { token } from "../once.js";
import { calendar } from "../parts/calendar.js";
import { every } from "../parts/every.js";
import { empty, showFailure } from "../parts/feedback.js";
import { scheduleEditor } from "../parts/schedule_editor.js";
import { buttons, outcome, schedulePath, stateBadge, timing, titleOf } from "../parts/schedules.js";
import { table } from "../parts/table.js";
import { render } from "../render.js";
import { go, href } from "../router.js";
import { when } from "../time.js";

const LOOK_MS = 5000;
const BEGINNING = { name: "", flow_name: "main", tag: "default", params: {}, cron: "0 9 * * 1-5", timezone: Intl.DateTimeFormat().resolvedOptions().timeZone, overlap: "skip", catch_up: "last" };

export function schedulesView(main, { query, signal, setLive }) {
  const list = h("div", { class: "table-wrap" });
  const day = h("div", { class: "card-body" });
  const more = h("button", { type: "button", hidden: true, onclick: () => { limit += 100; look(); } }, t("schedules.show_more"));
  let limit = 100;
  const head = (...rest) => h("div", { class: "view-head" }, h("h1", {}, t("nav.schedules")), h("span", { class: "spacer" }), rest);
  if (query.get("new") === "1") {
    const id = h("input", { type: "text", id: "schedule-id", pattern: "[A-Za-z0-9_\\-]{1,64}", placeholder: t("schedules.id.made") });
    // Made here, so that a try whose answer is lost and the next one make one schedule.
    const own = `s-${token().slice(0, 12)}`;
    const make = async (fields) => {
      const given = id.value.trim();
      const made = await (given ? send("POST", "/schedules", { ...fields, schedule_id: given }) : send("PUT", schedulePath(own), fields));
      go(["schedules", made.schedule_id]);
      return made;
    };
    replace(main, head(h("a", { class: "button", href: "#/schedules" }, t("do.back"))),
      h("section", { class: "card" }, h("div", { class: "card-head" }, h("h2", {}, t("schedules.new"))),
        h("div", { class: "card-body" }, h("label", { class: "field", for: "schedule-id" }, t("schedules.id"), id)), scheduleEditor(() => BEGINNING, make)));
    return;
  }
  replace(main, head(h("a", { class: "button primary", href: href(["schedules"], { new: 1 }) }, t("schedules.new"))),
    h("section", { class: "card" }, list), h("div", {}, more),
    h("section", { class: "card", "aria-label": t("schedules.day") }, h("div", { class: "card-head" }, h("h2", {}, t("schedules.day"))), day));

  const look = every(LOOK_MS, signal, async () => {
    try {
      const [page, due] = await Promise.all([get("/schedules", { limit: Math.min(limit, 500) }, signal), get("/schedules/calendar", { hours: 24 }, signal)]);
      setLive("live");
      more.hidden = page.next_cursor === null || limit >= 500;
      render(list, page.items.length === 0 ? empty(t("schedules.none"), t("schedules.none.next"), "pyoco-client schedule --help") : table({
        columns: ["schedules.schedule", "runs.flow", "schedules.when", "schedules.due", "schedules.last", "runs.status", null],
        rows: page.items.map(row),
      }));
      render(day, calendar(due));
    } catch (error) {
      if (!signal.aborted) showFailure(list, error, setLive);
    }
  });

  function row(schedule) {
    return h("tr", { dataset: { key: schedule.schedule_id } },
      h("td", { class: "wide named", dir: "auto" }, h("a", { href: href(["schedules", schedule.schedule_id]), title: schedule.schedule_id }, titleOf(schedule))),
      h("td", { class: "wide named", dir: "auto" }, schedule.flow_name),
      h("td", { class: "wide named" }, timing(schedule)),
      h("td", {}, when(schedule.next_due_at)),
      h("td", {}, schedule.last_tick ? outcome(schedule.last_tick) : "–"),
      h("td", {}, stateBadge(schedule)),
      h("td", { class: "right nowrap" }, buttons(schedule, look)));
  }
}
