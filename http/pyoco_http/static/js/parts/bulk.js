// Runs that were chosen in the list, and what can be done to all of them at once.

import { path as apiPath } from "../api.js";
import { h } from "../dom.js";
import { t, word } from "../i18n.js";
import { postOnce } from "../once.js";
import { render } from "../render.js";
import { confirm, tell } from "./feedback.js";
import { pressed } from "./pressed.js";
import { ended, runState } from "./status.js";

const AT_ONCE = 8;
const NAMED = 5; // flows

/**
 * `find(runId)`: the run as it is now; `changed`: called when other runs are chosen; `rest()`: what chooses the runs
 * that fit and are not loaded yet, null where all are.
 * Returns {element, has, size, pick, choose, draw}.
 */
export function bulk({ find, changed, rest }) {
  const chosen = new Set();
  const element = h("div", { class: "card-head", hidden: true, role: "group", "aria-label": t("do.actions") });

  function pick(runId) {
    if (!chosen.delete(runId)) chosen.add(runId);
    changed();
  }

  function choose(runIds) {
    chosen.clear();
    for (const runId of runIds) chosen.add(runId);
    changed();
  }

  function draw() {
    element.hidden = chosen.size === 0;
    if (chosen.size === 0) return;
    const items = [...chosen].map(find).filter(Boolean);
    const open = items.filter((item) => !ended(item.status));
    const over = items.filter((item) => ended(item.status));
    const button = (what, those) => h("button", {
      type: "button", class: what === "cancel" ? "danger small" : "small", dataset: { key: what }, disabled: those.length === 0, onclick: pressed(() => act(what, those)),
    }, t(`runs.${what}`, { count: those.length }));
    render(
      element,
      h("strong", {}, t("runs.chosen", { count: chosen.size })),
      rest() === null ? null : h("button", { type: "button", class: "small", onclick: rest() }, t("runs.select_rest")),
      h("span", { class: "spacer" }),
      button("cancel", open),
      button("retry", over),
      h("button", { type: "button", class: "quiet small", onclick: () => choose([]) }, t("runs.unselect")),
    );
  }

  async function act(what, items) {
    const count = items.length;
    const agreed = await confirm({
      title: t(`runs.${what}.title`, { count }), text: [h("p", {}, t(`runs.${what}.sure`, { count })), h("p", { class: "muted" }, summary(items))], action: t(`run.${what}`), danger: what === "cancel",
    });
    if (!agreed) return;
    const failures = [];
    let late = 0; // had ended by themselves
    const queue = [...items];
    const one = async () => {
      for (let item = queue.shift(); item; item = queue.shift()) {
        try {
          const { status } = await postOnce(`${apiPath`/runs/${item.run_id}`}/${what}`);
          if (what === "cancel" && ended(status) && status !== "CANCELLED") late += 1;
        } catch (error) {
          failures.push(error);
        }
      }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, one));
    choose([]);
    const text = t(late > 0 ? "runs.acted.late" : "runs.acted", { done: count - failures.length - late, failed: failures.length, late });
    tell(failures.length ? `${text} (${failures[0].message})` : text, { bad: failures.length > 0 });
  }

  return { element, has: (runId) => chosen.has(runId), get size() { return chosen.size; }, pick, choose, draw };
}

// "2 running, 1 pending: nightly, import"
function summary(items) {
  const states = Map.groupBy(items, runState);
  const flows = [...new Set(items.map((item) => item.flow_name))];
  const more = flows.length > NAMED ? ` +${flows.length - NAMED}` : "";
  return `${[...states].map(([status, those]) => `${those.length} ${word("state", status)}`).join(", ")}: ${flows.slice(0, NAMED).join(", ")}${more}`;
}
