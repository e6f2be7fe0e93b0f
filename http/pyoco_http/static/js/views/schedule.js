// One schedule: its next ticks, what became of the last ones, its changes, and what can be done with it.

import { get, send } from "../api.js";
import { h, replace } from "../dom.js";
import { write } from "../exact.js";
import { t, word } from "../i18n.js";
import { latest } from "../latest.js";
import { backfillPanel } from "../parts/backfill.js";
import { every } from "../parts/every.js";
import { confirm, showMissing, tell, tellError } from "../parts/feedback.js";
import { pressed } from "../parts/pressed.js";
import { scheduleEditor } from "../parts/schedule_editor.js";
import { buttons, outcome, schedulePath, stateBadge, tickTime, timing, titleOf } from "../parts/schedules.js";
import { table } from "../parts/table.js";
import { tabs } from "../parts/tabs.js";
import { render } from "../render.js";
import { go, going, href, setQuery } from "../router.js";
import { duration, when } from "../time.js";

const LOOK_MS = 3000;
const NEXT = 10;

export function scheduleView(main, { path, query, signal, setLive }) {
  const base = schedulePath(path[1]);
  let schedule = null;
  const head = h("div", { class: "view-head" });
  const terms = h("dl", { class: "facts" });
  const next = h("div", { class: "card-body" });
  const past = h("div", { class: "card-body table-wrap" });
  const changes = h("div", { class: "card-body table-wrap" });
  const panels = () => tabs({
    label: t("schedules.schedule"),
    signal,
    first: query.get("tab") ?? "",
    onShow: (tab) => { if (!signal.aborted) setQuery({ tab: tab === "past" ? "" : tab }); },
    items: {
      past: { label: t("schedules.past"), make: () => past },
      edit: { label: t("schedules.edit"), make: () => scheduleEditor(() => schedule, save) },
      backfill: { label: t("schedules.backfill"), make: () => backfillPanel(() => schedule) },
      changes: { label: t("schedules.changes"), make: () => changes },
    },
  });
  const card = (key, body) => h("section", { class: "card", "aria-label": t(key) }, h("div", { class: "card-head" }, h("h2", {}, t(key))), body);

  const asking = latest();
  const look = every(LOOK_MS, signal, async () => {
    const newest = asking();
    try {
      const [now, coming, ticks] = await Promise.all([get(base, {}, signal), get(`${base}/next`, { count: NEXT }, signal), get(`${base}/ticks`, {}, signal)]);
      setLive("live");
      if (!newest()) return; // it was saved meanwhile
      const first = schedule === null;
      schedule = now;
      if (first) replace(main, head, h("div", { class: "columns" }, card("schedules.schedule", h("div", { class: "card-body" }, terms)), card("schedules.next", next)), h("section", { class: "card" }, panels().element));
      draw(coming, ticks);
    } catch (error) {
      if (signal.aborted) return;
      setLive(error.status === 404 ? "" : "lost", error.message);
      if (schedule === null) showMissing(main, error, t("schedules.missing", { schedule: path[1] }), h("a", { href: "#/schedules" }, t("nav.schedules")));
      else if (error.status === 404) go(["schedules"]);
    }
  });

  function draw(coming, ticks) {
    document.title = `${titleOf(schedule)} · pyoco-server`;
    render(head, h("a", { href: "#/schedules" }, t("nav.schedules")), h("h1", { dir: "auto" }, titleOf(schedule)), stateBadge(schedule), h("code", { class: "muted" }, schedule.schedule_id),
      h("span", { class: "spacer" }), h("span", {}, buttons(schedule, look), " ", h("button", { type: "button", class: "danger small", onclick: pressed(remove) }, t("schedules.delete"))));
    render(terms, Object.entries(facts(schedule)).filter(([, value]) => value !== null).map(([key, value]) => [h("dt", {}, t(key)), h("dd", {}, value)]));
    render(next, schedule.paused ? h("p", { class: "muted" }, t("schedules.is_paused")) : coming.problem ? h("div", { class: "problem" }, coming.problem) : coming.ticks.length === 0 ? h("p", { class: "muted" }, t("schedules.never")) : h("ul", { class: "ticks" }, coming.ticks.map((tick) => h("li", {}, tickTime(tick)))),
      ticks.waiting.length === 0 ? null : [h("h3", {}, t("schedules.waiting")), h("ul", { class: "ticks" }, ticks.waiting.map((tick) => h("li", {}, tickTime(tick))))]);
    render(past, ticks.items.length === 0 ? h("p", { class: "muted" }, t("schedules.no_ticks")) : table({
      columns: ["schedules.tick", "history.what", "history.when"],
      rows: ticks.items.map((tick) => h("tr", {}, h("td", {}, tickTime({ tick_at: tick.tick, local: tick.local })), h("td", {}, outcome(tick)), h("td", {}, when(tick.decided_at)))),
    }));
    render(changes, table({
      columns: ["history.when", "history.what", "wheels.by", "schedules.fields"],
      rows: schedule.changes.toReversed().map((change) => h("tr", {}, h("td", {}, when(change.changed_at)), h("td", {}, word("schedules.action", change.action)), h("td", {}, change.changed_by ?? "–"), h("td", {}, (change.fields ?? []).join(", ")))),
    }));
  }

  async function save(fields, version) {
    schedule = await send("PUT", base, { ...fields, version });
    asking();
    tell(t("schedules.saved"));
    look();
    return schedule;
  }

  async function remove() {
    const to = going();
    const title = titleOf(schedule);
    const count = schedule.waiting.length;
    if (!(await confirm({ title: t("schedules.delete.title", { title }), text: count === 0 ? t("schedules.delete.none") : t("schedules.delete.sure", { count }), action: t("schedules.delete"), danger: true }))) return;
    try {
      await send("DELETE", base);
      to(["schedules"]);
    } catch (error) {
      tellError(error);
    }
  }
}

function facts(schedule) {
  const { counts, labels, params } = schedule;
  return {
    "schedules.when": timing(schedule),
    "runs.flow": [schedule.flow_name, " ", h("a", { href: href(["runs"], { schedule_id: schedule.schedule_id }) }, t("schedules.runs"))],
    "runs.tag": schedule.tag,
    "run.params": Object.keys(params).length ? h("pre", { class: "code" }, write(params, 2)) : null,
    "schedules.overlap": word("schedules.overlap", schedule.overlap),
    "schedules.catch_up": [word("schedules.catch_up", schedule.catch_up), schedule.catch_up === "all" ? ` (${schedule.catch_up_limit})` : null],
    "schedules.jitter": schedule.jitter_sec ? duration(schedule.jitter_sec) : null,
    "range.from": schedule.start_at ? when(schedule.start_at) : null,
    "range.to": schedule.end_at ? when(schedule.end_at) : null,
    "run.timeout": schedule.timeout_sec ? duration(schedule.timeout_sec) : null,
    "schedules.labels": Object.keys(labels).length ? h("span", { class: "chips" }, Object.entries(labels).map(([name, value]) => h("span", { class: "chip" }, `${name}=${value}`))) : null,
    "schedules.counts": Object.entries(counts).map(([what, count]) => `${word("schedules.outcome", what)} ${count}`).join(", ") || "–",
    "run.tenant": schedule.tenant_id,
  };
}
