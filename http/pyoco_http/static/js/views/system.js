// The state of the system: readiness, queues, throughput and the supervision tree.

import { get, inTime, url } from "../api.js";
import { h, replace } from "../dom.js";
import { t, word } from "../i18n.js";
import { bars, chart, legend, line } from "../parts/chart.js";
import { every } from "../parts/every.js";
import { empty, showProblem } from "../parts/feedback.js";
import { SPANS } from "../parts/range.js";
import { table } from "../parts/table.js";
import { tree } from "../parts/tree.js";
import { render } from "../render.js";
import { href, setQuery } from "../router.js";
import { duration, moment } from "../time.js";

const LOOK_MS = 2000;
// How many minutes a step of a chart has, and how often it is looked at: a month changes slowly.
const STEPS = { "1h": 1, "24h": 15, "7d": 120, "30d": 480 };
const CHART_MS = { "1h": 5000, "24h": 15_000, "7d": 60_000, "30d": 60_000 };
const QUEUE_COLUMNS = ["pending", "ack_pending", "redelivered", "waiting_pulls"];

export function systemView(main, { query, signal, setLive }) {
  let span = query.get("span") in SPANS ? query.get("span") : "1h";
  const body = () => h("div", { class: "card-body" });
  const places = { ready: body(), queues: h("div", { class: "table-wrap" }), rate: body(), wait: body(), run: body(), actors: body() };
  const charts = { rate: chart(), wait: chart(), run: chart() };
  const card = (key) => h("section", { class: "card", "aria-label": t(`system.${key}`) }, h("div", { class: "card-head" }, h("h2", {}, t(`system.${key}`))), places[key]);
  const choice = h("div", { class: "chips", role: "group", "aria-label": t("range.label") }, Object.keys(SPANS).map((name) =>
    h("button", { type: "button", class: "small", "aria-pressed": String(name === span), dataset: { span: name }, onclick: () => choose(name) }, t(`range.${name}`))));
  replace(main, h("div", { class: "view-head" }, h("h1", {}, t("nav.system"))),
    h("div", { class: "state" }, card("ready"), card("queues")),
    choice, h("div", { class: "charts" }, card("rate"), card("wait"), card("run")),
    card("actors"));

  function choose(name) {
    span = name;
    setQuery({ span: name === "1h" ? "" : name });
    for (const button of choice.children) button.setAttribute("aria-pressed", String(button.dataset.span === name));
    looked = -Infinity;
    look();
  }

  let looked = -Infinity; // when the charts were brought up to date
  async function stats() {
    if (performance.now() - looked < CHART_MS[span]) return null;
    looked = performance.now();
    const asked = span;
    const answer = await get("/stats", { minutes: SPANS[asked] / 60, step_minutes: STEPS[asked], percentiles: true }, signal);
    return asked === span ? answer : null;
  }

  const look = every(LOOK_MS, signal, async () => {
    // Each by itself: what an operator's key may not see leaves the others as they are.
    const reached = await Promise.all([
      part(["ready"], () => readiness(signal), (state) => [ready(state)]),
      part(["queues"], () => get("/queues", {}, signal), (answer) => [queues(answer)]),
      part(["rate", "wait", "run"], stats, (answer) => drawCharts(charts, answer, t(`range.${span}`))),
      part(["actors"], () => get("/actors", {}, signal), (answer) => [tree(answer.tree)]),
    ]);
    if (!signal.aborted) setLive(reached.some(Boolean) ? "live" : "lost");
  });

  // Whether the gateway answered. What was there stays while it does not.
  async function part(names, load, draw) {
    try {
      const answer = await load();
      if (answer === null || signal.aborted) return true;
      const drawn = draw(answer);
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
  return (await fetch(url("/health/ready"), { cache: "no-store", signal: inTime(signal) })).json();
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
    table({
      columns: ["runs.tag", ...QUEUE_COLUMNS.map((key) => `system.${key}`), "history.why"],
      right: QUEUE_COLUMNS.map((key) => `system.${key}`),
      rows: found.map((queue) => h("tr", { dataset: { key: queue.tag } },
        h("td", { class: "wide named" }, h("a", { href: href(["runs"], { tag: queue.tag }) }, queue.tag)),
        QUEUE_COLUMNS.map((key) => h("td", { class: "right", title: t(`system.${key}.what`) }, queue[key] ?? "–")),
        h("td", { class: "nowrap" }, queue.waiting_reason ? h("span", { class: "status tone-warn" }, word("system.waits", queue.waiting_reason)) : ""))),
    }),
    dead,
  ];
}

const ENDS = [["COMPLETED", "good"], ["FAILED", "bad"], ["CANCELLED", "warn"]].map(([status, tone]) => ({ status, tone, of: (step) => step[status.toLowerCase()] ?? 0 }));
const RANKS = ["p50", "p95", "p99"];

// The three charts, of an answer of GET /stats.
function drawCharts(charts, { minutes: steps, percentiles }, span) {
  const when = (step, seconds) => `${moment(step.start, seconds * steps.length)} – ${moment(step.start + seconds, seconds * steps.length)}`;
  const sum = (of) => steps.reduce((total, step) => total + of(step), 0);
  charts.rate.show(steps, {
    label: t("system.rate"), shapes: bars(steps, ENDS), most: steps.reduce((most, step) => Math.max(most, step.ended), 0), unit: String,
    said: (step, seconds) => `${when(step, seconds)}: ${ENDS.map(({ status, of }) => `${of(step)} ${word("state", status)}`).join(", ")}`,
  });
  const spread = (name) => {
    const value = (rank) => (step) => step[`${name}_${rank}`] ?? null;
    charts[name].show(steps, {
      label: t(`system.${name}`), unit: duration,
      shapes: (y, step) => RANKS.toReversed().map((rank) => line(steps, value(rank), rank)(y, step)),
      most: steps.reduce((most, step) => Math.max(most, ...RANKS.map((rank) => value(rank)(step) ?? 0)), 0),
      said: (step, seconds) => `${when(step, seconds)}: ${RANKS.map((rank) => `${rank} ${duration(value(rank)(step))}`).join(", ")}`,
    });
    const keys = legend(RANKS.map((rank) => ({ look: `key-${rank}`, name: rank, value: duration(percentiles[name][rank]) })));
    const none = percentiles[name].p50 === undefined;
    return [charts[name].element, none ? h("p", { class: "muted" }, t(`system.${name}.none`)) : keys, percentiles.every > 1 ? h("p", { class: "muted" }, t("system.sampled", { every: percentiles.every })) : null];
  };
  return [
    [charts.rate.element, legend(ENDS.map(({ status, tone, of }) => ({ look: `key-${tone}`, name: word("state", status), value: sum(of) }))),
      h("p", { class: "muted" }, t("system.rate.sum", { count: sum((step) => step.ended), span }))],
    spread("wait"),
    spread("run"),
  ];
}
