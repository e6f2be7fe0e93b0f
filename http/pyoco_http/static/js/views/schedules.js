// Schedules: what runs when, what is due in the next day, and a new one.

import { get, send } from "../api.js";
import { h, replace } from "../dom.js";
import { t } from "../i18n.js";
import { token } from "../once.js";
import { calendar } from "../parts/calendar.js";
import { every } from "../parts/every.js";
import { empty, showFailure, showProblem, tell } from "../parts/feedback.js";
import { scheduleEditor } from "../parts/schedule_editor.js";
import { buttons, outcome, schedulePath, stateBadge, timing, titleOf } from "../parts/schedules.js";
import { table } from "../parts/table.js";
import { render } from "../render.js";
import { going, href, setQuery } from "../router.js";
import { when } from "../time.js";
import { lasting, typed } from "../typed.js";

const LOOK_MS = 5000;
const DAY_MS = 15_000; // what is due in a day changes slowly
const TYPING_MS = 250;
const MOST = 1000; // are shown; the gateway has room for 20,000
const BEGINNING = { name: "", flow_name: "main", tag: "default", params: {}, cron: "0 9 * * 1-5", timezone: Intl.DateTimeFormat().resolvedOptions().timeZone, overlap: "skip", catch_up: "last" };

export function schedulesView(main, { query, signal, setLive }) {
  const list = h("div", { class: "table-wrap" });
  const day = h("div", { class: "card-body" });
  const head = (...rest) => h("div", { class: "view-head" }, h("h1", {}, t("nav.schedules")), h("span", { class: "spacer" }), rest);
  if (query.get("new") === "1") {
    const id = typed(h("input", { type: "text", id: "schedule-id", pattern: "[A-Za-z0-9_\\-]{1,64}", placeholder: t("schedules.id.made") }));
    // Made here, so that a try whose answer is lost and the next one make one schedule.
    const own = lasting("new-schedule", () => ({ id: `s-${token().slice(0, 12)}` }));
    const make = async (fields) => {
      const to = going();
      const given = id.value.trim();
      const made = await (given ? send("POST", "/schedules", { ...fields, schedule_id: given }) : send("PUT", schedulePath(own.id), fields));
      tell(t("schedules.saved"));
      to(["schedules", made.schedule_id]);
      return made;
    };
    replace(main, head(h("a", { class: "button", href: "#/schedules" }, t("do.back"))),
      h("section", { class: "card" }, h("div", { class: "card-head" }, h("h2", {}, t("schedules.new"))),
        h("div", { class: "card-body" }, h("label", { class: "field", for: "schedule-id" }, t("schedules.id"), id)), scheduleEditor(() => BEGINNING, make)));
    return;
  }

  let q = query.get("q") ?? "";
  let limit = 100;
  let timer;
  const search = h("input", {
    type: "search", id: "schedule-search", value: q,
    oninput: () => {
      clearTimeout(timer);
      timer = setTimeout(() => { q = search.value.trim(); if (!signal.aborted) setQuery({ q }); look(); }, TYPING_MS);
    },
  });
  const first = h("p", { class: "muted", hidden: true });
  const more = h("button", { type: "button", hidden: true, onclick: () => { limit = Math.min(2 * limit, MOST); look(); } }, t("schedules.show_more"));
  replace(main, head(h("a", { class: "button primary", href: href(["schedules"], { new: 1 }) }, t("schedules.new"))),
    h("div", { class: "filters" }, h("label", { class: "field grow", for: "schedule-search" }, t("schedules.search"), search)),
    h("section", { class: "card" }, list), h("div", {}, first, more),
    h("section", { class: "card", "aria-label": t("schedules.day") }, h("div", { class: "card-head" }, h("h2", {}, t("schedules.day"))), day));

  const lookAtList = every(LOOK_MS, signal, async () => {
    const asked = q;
    try {
      const { items, next_cursor: cursor } = await beginning("/schedules", { q }, limit, 500, signal);
      setLive("live");
      if (asked !== q) return;
      more.hidden = cursor === null || limit >= MOST;
      first.hidden = cursor === null;
      replace(first, t("schedules.first", { count: items.length }));
      render(list, items.length > 0 ? table({
        columns: ["schedules.schedule", "runs.flow", "schedules.when", "schedules.due", "schedules.last", "runs.status", null],
        rows: items.map(row),
      }) : q !== "" ? empty(t("schedules.none"), t("schedules.none.filtered"))
        : empty(t("schedules.none"), t("schedules.none.next"), "pyoco-client schedule --help"));
    } catch (error) {
      if (!signal.aborted) showFailure(list, error, setLive);
    }
  });

  const lookAtDay = every(DAY_MS, signal, async () => {
    const asked = q;
    try {
      const due = await beginning("/schedules/calendar", { q, hours: 24, paused: false }, MOST, 200, signal);
      if (asked === q) render(day, calendar(due), due.next_cursor === null ? null : h("p", { class: "muted" }, t("schedules.first", { count: due.items.length })));
    } catch (error) {
      if (error.status) showProblem(day, error); // the list says where the gateway is away
    }
  });

  function look() {
    lookAtList();
    lookAtDay();
  }

  function row(schedule) {
    return h("tr", { dataset: { key: schedule.schedule_id } },
      h("td", { class: "wide named", dir: "auto" }, h("a", { href: href(["schedules", schedule.schedule_id]), title: schedule.schedule_id }, titleOf(schedule))),
      h("td", { class: "wide named", dir: "auto" }, schedule.flow_name),
      h("td", { class: "wide named" }, timing(schedule)),
      h("td", {}, schedule.problem ?? when(schedule.next_due_at)),
      h("td", {}, schedule.last_tick ? outcome(schedule.last_tick) : "–"),
      h("td", {}, stateBadge(schedule)),
      h("td", { class: "right nowrap" }, buttons(schedule, look)));
  }
}

// A list up to so many of its items, by pages of so many at most; `next_cursor` is null where that is all of it.
async function beginning(path, query, most, size, signal) {
  const items = [];
  let page;
  do {
    page = await get(path, { ...query, limit: Math.min(size, most - items.length), cursor: page?.next_cursor }, signal);
    items.push(...page.items);
  } while (page.next_cursor !== null && items.length < most);
  return { ...page, items };
}
