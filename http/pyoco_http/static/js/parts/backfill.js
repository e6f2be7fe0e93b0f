// Runs for ticks of the past: first what would be submitted, then the runs.

import { send } from "../api.js";
import { h, replace } from "../dom.js";
import { t, word } from "../i18n.js";
import { latest } from "../latest.js";
import { href } from "../router.js";
import { typed } from "../typed.js";
import { confirm, tell, tellError } from "./feedback.js";
import { pressed } from "./pressed.js";
import { unixOf } from "./range.js";
import { schedulePath, titleOf } from "./schedules.js";
import { table } from "./table.js";

/** A panel for a schedule; `schedule()` is it as it is now. */
export function backfillPanel(schedule) {
  const time = (id, key) => h("label", { class: "field", for: id }, t(key), typed(h("input", { type: "datetime-local", id, step: 1, required: true })));
  const limit = typed(h("input", { type: "number", id: "backfill-limit", min: 1, max: 1000, value: 100 }));
  const said = h("div", { role: "status" });
  const form = h("form", { class: "filters", onsubmit: (event) => { event.preventDefault(); look(); } },
    time("backfill-from", "range.from"), time("backfill-to", "range.to"), h("label", { class: "field", for: "backfill-limit" }, t("schedules.limit"), limit),
    h("button", {}, t("schedules.dry_run")));

  function wish() {
    const at = (id) => unixOf(form.querySelector(`#${id}`).value);
    return { from: at("backfill-from"), to: at("backfill-to"), limit: Number(limit.value) };
  }

  const asking = latest();
  const ask = (wanted, dry) => send("POST", `${schedulePath(schedule().schedule_id)}/backfill`, { ...wanted, dry_run: dry });

  async function look() {
    const newest = asking();
    try {
      const wanted = wish();
      const { items, more } = await ask(wanted, true);
      if (!newest()) return;
      const count = items.filter((item) => item.outcome === "would_submit").length;
      replace(said, listed(items), more ? h("p", { class: "muted" }, t("schedules.more")) : null,
        h("button", { type: "button", class: "primary", disabled: count === 0, onclick: pressed(() => submit(wanted, count)) }, t("schedules.submit", { count })));
    } catch (error) {
      tellError(error);
    }
  }

  async function submit(wanted, count) {
    const title = titleOf(schedule());
    if (!(await confirm({ title: t("schedules.backfill.title", { title, count }), text: t("schedules.backfill.sure"), action: t("schedules.submit", { count }) }))) return;
    const newest = asking();
    try {
      const { items } = await ask(wanted, false);
      if (newest()) replace(said, listed(items));
      tell(t("schedules.submitted", { count: items.filter((item) => item.outcome === "submitted").length }));
    } catch (error) {
      tellError(error);
    }
  }

  return h("div", { class: "card-body" }, form, said);
}

function listed(items) {
  if (items.length === 0) return h("p", { class: "muted" }, t("schedules.no_ticks"));
  return h("div", { class: "table-wrap" }, table({
    columns: ["schedules.tick", "history.what", "runs.run"],
    rows: items.map((item) => h("tr", {}, h("td", {}, item.local), h("td", {}, [word("schedules.filled", item.outcome), item.reason].filter(Boolean).join(": ")),
      h("td", {}, item.outcome === "would_submit" ? "" : h("a", { class: "mono", href: href(["runs", item.run_id]), title: item.run_id }, item.run_id.slice(0, 8))))),
  }));
}
