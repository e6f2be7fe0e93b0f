// The state of the system: readiness, queues, throughput and the supervision tree.

import { get, url } from "../api.js";
import { h, replace } from "../dom.js";
import { t, word } from "../i18n.js";
import { bars, line } from "../parts/chart.js";
import { every } from "../parts/every.js";
import { empty, showProblem } from "../parts/feedback.js";
import { tree } from "../parts/tree.js";
import { render } from "../render.js";
import { href } from "../router.js";
import { duration } from "../time.js";

const LOOK_MS = 2000;
const QUEUE_COLUMNS = ["pending", "ack_pending", "redelivered", "waiting_pulls"];

export function systemView(main, { signal, setLive }) {
  const body = () => h("div", { class: "card-body" });
  const places = { ready: body(), queues: h("div", { class: "table-wrap" }), rate: body(), wait: body(), actors: body() };
  const card = (key) => h("section", { class: "card", "aria-label": t(`system.${key}`) }, h("div", { class: "card-head" }, h("h2", {}, t(`system.${key}`))), places[key]);
  replace(main, h("div", { class: "view-head" }, h("h1", {}, t("nav.system"))),
    h("div", { class: "halves" }, card("ready"), card("queues"), card("rate"), card("wait")),
    card("actors"));

  every(LOOK_MS, signal, async () => {
    // Each by itself: what an operator's key may not see leaves the others as they are.
    const reached = await Promise.all([
      part(["ready"], () => readiness(signal), (state) => [ready(state)]),
      part(["queues"], () => get("/queues", {}, signal), (answer) => [queues(answer)]),
      part(["rate", "wait"], () => get("/stats", {}, signal), ({ minutes }) => [rate(minutes), wait(minutes)]),
      part(["actors"], () => get("/actors", {}, signal), (answer) => [tree(answer.tree)]),
    ]);
    if (!signal.aborted) setLive(reached.some(Boolean) ? "live" : "lost");
  });

  // Whether the gateway answered. What was there stays while it does not.
  async function part(names, load, draw) {
    try {
      const drawn = draw(await load());
      names.forEach((name, index) => render(places[name], drawn[index]));
      return true;
    } catch (error) {
      if (error.status) for (const name of names) showProblem(places[name], error);
      return error.status > 0;
    }
  }
}

// "Not ready" is an answer here and no failure; the route needs no key.
async function readiness(signal) {
  return (await fetch(url("/health/ready"), { cache: "no-store", signal })).json();
}

function ready({ status, reasons, nats }) {
  const ok = status === "ready";
  return [
    h("p", {}, h("span", { class: `status tone-${ok ? "good" : "bad"}` }, t(ok ? "system.is_ready" : "system.not_ready"))),
    reasons.map((reason) => h("p", { class: "error-text" }, reason)),
    h("dl", { class: "facts" },
      h("dt", {}, "NATS"), h("dd", {}, nats.server ?? "–"),
      h("dt", {}, t("system.reconnects")), h("dd", {}, nats.reconnects),
      nats.last_error ? [h("dt", {}, t("system.last_error")), h("dd", {}, nats.last_error)] : null),
  ];
}

function queues({ queues: found, dead_letters: letters }) {
  const dead = h("p", { class: "card-body" }, h("a", { href: "#/dlq" }, t("system.dead_letters", { count: letters ?? "–" })));
  if (found.length === 0) return [empty(t("system.queues.none"), t("workers.none.next"), "pyoco-worker --tags default --worker-id w1"), dead];
  return [
    h("table", { class: "table" },
      h("thead", {}, h("tr", {}, h("th", { scope: "col" }, t("runs.tag")), QUEUE_COLUMNS.map((key) => h("th", { scope: "col", class: "right", title: t(`system.${key}.what`) }, t(`system.${key}`))))),
      h("tbody", {}, found.map((queue) => h("tr", { dataset: { key: queue.tag } },
        h("td", { class: "nowrap" }, h("a", { href: href(["runs"], { tag: queue.tag }) }, queue.tag)),
        QUEUE_COLUMNS.map((key) => h("td", { class: "right" }, queue[key] ?? "–")))))),
    dead,
  ];
}

function rate(minutes) {
  const count = minutes.reduce((sum, minute) => sum + minute.ended, 0);
  const parts = [["COMPLETED", "good"], ["FAILED", "bad"], ["CANCELLED", "warn"]]
    .map(([status, tone]) => ({ name: word("state", status), tone, of: (minute) => minute[status.toLowerCase()] ?? 0 }));
  return [bars(minutes, { label: t("system.rate"), parts }), h("p", { class: "muted" }, t("system.rate.sum", { count }))];
}

function wait(minutes) {
  const known = minutes.filter((minute) => minute.wait_avg !== null);
  const last = known.at(-1)?.wait_avg;
  return [
    line(minutes, { label: t("system.wait"), of: (minute) => minute.wait_avg, unit: duration }),
    h("p", { class: "muted" }, known.length === 0 ? t("system.wait.none") : t("system.wait.last", { duration: duration(last) })),
  ];
}
