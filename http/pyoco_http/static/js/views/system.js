// The state of the system: readiness, queues, throughput and the supervision tree.

import { get } from "../api.js";
import { h, replace } from "../dom.js";
import { t, word } from "../i18n.js";
import { every } from "../parts/every.js";
import { empty } from "../parts/feedback.js";
import { spark } from "../parts/spark.js";
import { href } from "../router.js";
import { duration } from "../time.js";

const LOOK_MS = 2000;

export function systemView(main, { signal, setLive }) {
  const ready = h("div", { class: "card-body" });
  const queues = h("div", { class: "table-wrap" });
  const rates = h("div", { class: "card-body" });
  const waits = h("div", { class: "card-body" });
  const tree = h("div", { class: "card-body" });
  const card = (key, body) => h("section", { class: "card" }, h("div", { class: "card-head" }, h("h2", {}, t(key))), body);
  replace(main, h("div", { class: "view-head" }, h("h1", {}, t("nav.system"))),
    h("div", { class: "cards" }, card("system.ready", ready), card("system.queues", queues)),
    h("div", { class: "cards" }, card("system.rate", rates), card("system.wait", waits)),
    card("system.actors", tree));

  every(LOOK_MS, signal, async () => {
    // Each by itself: what an operator's key may not see leaves the others as they are.
    const results = await Promise.all([
      part(ready, () => readiness(signal), drawReady),
      part(queues, () => get("/queues", {}, signal), drawQueues),
      part(rates, () => get("/stats", {}, signal), (stats) => [drawRates(stats), replace(waits, drawWaits(stats))][0]),
      part(tree, () => get("/actors", {}, signal), drawTree),
    ]);
    if (!signal.aborted) setLive(results.some(Boolean) ? "live" : "lost");
  });

  async function part(place, load, draw) {
    try {
      replace(place, draw(await load()));
      return true;
    } catch (error) {
      if (signal.aborted) return false;
      if (error.status) replace(place, h("div", { class: "problem" }, error.message));
      return error.status > 0;
    }
  }
}

// "Not ready" is an answer here and no failure; the route needs no key.
async function readiness(signal) {
  return (await fetch("/health/ready", { cache: "no-store", signal })).json();
}

function drawReady(state) {
  const ok = state.status === "ready";
  return [
    h("p", {}, h("span", { class: `status tone-${ok ? "good" : "bad"}` }, t(ok ? "system.is_ready" : "system.not_ready"))),
    (state.reasons ?? []).map((reason) => h("p", { class: "error-text" }, reason)),
    h("dl", { class: "facts" },
      h("dt", {}, "NATS"), h("dd", {}, state.nats?.server ?? "–"),
      h("dt", {}, t("system.reconnects")), h("dd", {}, state.nats?.reconnects ?? 0)),
  ];
}

function drawQueues(answer) {
  const queues = Array.isArray(answer) ? answer : answer.queues ?? answer.items ?? [];
  if (queues.length === 0) return empty(t("system.queues.none"), t("workers.none.next"));
  const columns = ["pending", "ack_pending", "redelivered", "waiting_pulls"];
  return h("table", { class: "table" },
    h("thead", {}, h("tr", {}, h("th", { scope: "col" }, t("runs.tag")), columns.map((key) => h("th", { scope: "col", class: "right" }, t(`system.${key}`))))),
    h("tbody", {}, queues.map((queue) => h("tr", {}, h("td", {}, h("a", { href: href(["runs"], { tag: queue.tag }) }, queue.tag)), columns.map((key) => h("td", { class: "right" }, queue[key] ?? "–"))))));
}

function drawRates(stats) {
  const minutes = stats.minutes ?? [];
  const total = minutes.reduce((sum, minute) => sum + (minute.ended ?? 0), 0);
  return [spark(minutes.map((minute) => minute.ended ?? 0), { label: t("system.rate") }), h("p", { class: "muted" }, t("system.rate.sum", { count: total }))];
}

function drawWaits(stats) {
  const minutes = stats.minutes ?? [];
  return [
    spark(minutes.map((minute) => minute.wait_p50 ?? minute.wait_avg ?? 0), { label: t("system.wait"), unit: duration }),
    h("p", { class: "muted" }, t("system.wait.now", { duration: duration(minutes.at(-1)?.wait_p50 ?? minutes.at(-1)?.wait_avg) })),
  ];
}

function drawTree(answer) {
  const root = answer.tree ?? answer.root ?? answer;
  return h("ul", { class: "tree" }, node(root));
}

function node(actor) {
  const children = actor.children ?? [];
  const failed = actor.last_error ?? null;
  return h("li", {},
    h("div", { class: "tree-node", dataset: { path: actor.path } },
      h("strong", {}, actor.path === "/" ? "/" : actor.path.split("/").at(-1)),
      h("span", { class: `status tone-${{ idle: "good", busy: "good", supervising: "good", starting: "running", stopping: "warn" }[actor.state] ?? "bad"}` }, word("actor", actor.state)),
      actor.strategy ? h("span", { class: "chip" }, actor.strategy) : null,
      actor.restarts ? h("span", { class: "status tone-warn" }, t("system.restarts", { count: actor.restarts })) : null,
      actor.mailbox_capacity ? h("span", { class: "muted" }, t("system.mailbox", { depth: actor.mailbox_depth ?? 0, capacity: actor.mailbox_capacity })) : null,
      actor.messages ? h("span", { class: "muted" }, t("system.messages", { count: actor.messages })) : null,
      failed ? h("span", { class: "error-text" }, failed) : null),
    children.length ? h("ul", {}, children.map(node)) : null);
}
