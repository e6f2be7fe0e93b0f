// Dead letters: look, send again, drop.

import { get, path as apiPath, send } from "../api.js";
import { h, replace } from "../dom.js";
import { visible, write } from "../exact.js";
import { t, word } from "../i18n.js";
import { every } from "../parts/every.js";
import { confirm, empty, showFailure, tell, tellError } from "../parts/feedback.js";
import { pressed } from "../parts/pressed.js";
import { table } from "../parts/table.js";
import { render } from "../render.js";
import { href, setQuery } from "../router.js";
import { when } from "../time.js";

const LOOK_MS = 5000;
const REASONS = ["invalid_job", "flow_not_found", "execution_error", "max_deliveries", "worker_crashed", "timeout", "out_of_memory", "cpu_limit", "expired", "job_lost"];
const COLUMNS = ["history.when", "dlq.reason", "runs.run", "runs.flow", "runs.tag", "runs.error", null];

export function dlqView(main, { query, signal, setLive }) {
  const filters = { reason: query.get("reason") ?? "" };
  let letters = [];
  let begin = Infinity; // the sequence from which on all letters are loaded; 0 is the first one
  const list = h("div", { class: "table-wrap" });
  const more = h("button", { type: "button", onclick: older, hidden: true }, t("dlq.older"));
  const reason = h("select", { id: "dlq-reason", onchange: () => { filters.reason = reason.value; setQuery(filters); letters = []; begin = Infinity; more.hidden = true; look(); } },
    h("option", { value: "" }, t("runs.all")), REASONS.map((each) => h("option", { value: each }, word("reason", each))));
  reason.value = filters.reason;
  replace(
    main,
    h("div", { class: "view-head" }, h("h1", {}, t("nav.dlq"))),
    h("div", { class: "filters" }, h("label", { class: "field", for: "dlq-reason" }, t("dlq.reason"), reason)),
    h("section", { class: "card" }, list), h("div", {}, more),
  );

  const look = every(LOOK_MS, signal, async () => {
    try {
      const asked = filters.reason;
      const page = await get("/dlq", { ...filters, limit: 50 }, signal);
      setLive("live");
      if (asked !== filters.reason) return;
      const edge = Number(page.next_cursor ?? 0);
      // Older pages that were loaded stay where this one reaches them. It has none where none are among the newest.
      const joined = page.items.length === 0 || letters.some((letter) => letter.seq >= edge);
      letters = [...page.items, ...(joined ? letters.filter((letter) => letter.seq < edge) : [])];
      begin = joined ? Math.min(begin, edge) : edge;
      draw();
    } catch (error) {
      failed(error);
    }
  });

  async function older() {
    const [asked, from] = [filters.reason, begin];
    more.disabled = true;
    try {
      const page = await get("/dlq", { ...filters, limit: 50, cursor: from }, signal);
      if (asked !== filters.reason || from !== begin) return;
      letters = [...letters, ...page.items];
      begin = Number(page.next_cursor ?? 0);
      draw();
    } catch (error) {
      failed(error);
    } finally {
      more.disabled = false;
    }
  }

  function failed(error) {
    if (!signal.aborted) showFailure(list, error, setLive);
  }

  function draw() {
    more.hidden = begin === 0;
    render(list, letters.length > 0 ? table({ columns: COLUMNS, rows: letters.map(row) })
      : begin > 0 ? h("p", { class: "card-body muted" }, t("dlq.none.newest")) : empty(t("dlq.none"), t("dlq.none.next")));
  }

  function row(letter) {
    const [first] = (letter.error ?? "").split("\n");
    return h("tr", { dataset: { key: letter.seq, seq: letter.seq } },
      h("td", {}, when(letter.timestamp)),
      h("td", { class: "nowrap" }, word("reason", letter.reason)),
      h("td", {}, letter.run_id ? h("a", { class: "mono", href: href(["runs", letter.run_id]), title: letter.run_id }, letter.run_id.slice(0, 8)) : "–"),
      h("td", { class: "wide named", dir: "auto" }, visible(letter.flow_name) ?? ""),
      h("td", {}, letter.tag ?? ""),
      h("td", { class: "wide" }, h("details", {}, h("summary", { class: "error-text", dir: "auto" }, visible(first) || t("dlq.look")), h("pre", { class: "code", tabindex: 0 }, write(letter, 2)))),
      h("td", { class: "right nowrap" },
        h("button", { type: "button", class: "small", disabled: letter.reason === "invalid_job", onclick: pressed(() => requeue(letter)) }, t("dlq.requeue")), " ",
        h("button", { type: "button", class: "danger small", onclick: pressed(() => drop(letter)) }, t("dlq.drop"))));
  }

  async function requeue(letter) {
    try {
      const answer = await send("POST", apiPath`/dlq/${letter.seq}/requeue`);
      letters = letters.filter((each) => each.seq !== letter.seq);
      tell(t("dlq.requeued", { run: answer.run_id }));
    } catch (error) {
      tellError(error);
    }
    look();
  }

  async function drop(letter) {
    const about = [word("reason", letter.reason), letter.flow_name, letter.run_id?.slice(0, 8)].filter(Boolean).join(" · ");
    if (!(await confirm({ title: t("dlq.drop.title", { about }), text: t("dlq.drop.sure"), action: t("dlq.drop"), danger: true }))) return;
    try {
      await send("DELETE", apiPath`/dlq/${letter.seq}`);
      letters = letters.filter((each) => each.seq !== letter.seq);
    } catch (error) {
      tellError(error);
    }
    look();
  }
}
