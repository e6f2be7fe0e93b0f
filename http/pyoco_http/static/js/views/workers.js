// Workers: what each is, what its slots run, and what an operator may tell it.

import { get, path as apiPath, send } from "../api.js";
import { h, replace } from "../dom.js";
import { t } from "../i18n.js";
import { every } from "../parts/every.js";
import { confirm, empty, showFailure, tellError } from "../parts/feedback.js";
import { pressed } from "../parts/pressed.js";
import { badge } from "../parts/status.js";
import { render } from "../render.js";
import { href, setQuery } from "../router.js";
import { ago, duration, when } from "../time.js";

const LOOK_MS = 2000;
const MOST = 500;
const RUN_SHOWN = 8; // characters of a run's id

export function workersView(main, { query, signal, setLive }) {
  const options = { all: query.get("all") === "1", q: query.get("q") ?? "" };
  let workers = null;
  const list = h("div", { class: "cards" });
  const all = h("input", { type: "checkbox", checked: options.all, onchange: () => { options.all = all.checked; remember(); look(); } });
  const search = h("input", { type: "search", id: "worker-search", value: options.q, oninput: () => { options.q = search.value.trim(); remember(); draw(); } });
  const most = h("p", { class: "muted", hidden: true }, t("workers.most", { count: MOST }));
  const remember = () => setQuery({ ...(options.all ? { all: 1 } : {}), q: options.q });
  replace(main, h("div", { class: "view-head" }, h("h1", {}, t("nav.workers")), h("span", { class: "spacer" }), h("label", { class: "nowrap" }, all, " ", t("workers.all"))),
    h("div", { class: "filters" }, h("label", { class: "field grow", for: "worker-search" }, t("workers.search"), search)), most, list);

  const look = every(LOOK_MS, signal, async () => {
    try {
      workers = await get("/workers", { scope: options.all ? "all" : "active", include_hidden: options.all, limit: MOST }, signal);
      setLive("live");
      // By name, so that a card stays where it is.
      workers.sort((one, two) => (one.worker_id < two.worker_id ? -1 : 1));
      draw();
    } catch (error) {
      if (!signal.aborted) showFailure(list, error, setLive);
    }
  });

  function draw() {
    if (workers === null) return;
    most.hidden = workers.length < MOST;
    const words = options.q.toLowerCase();
    const found = workers.filter(({ worker_id: id, tags }) => [id, ...(tags ?? [])].some((text) => text.toLowerCase().includes(words)));
    if (found.length > 0) render(list, found.map(card));
    else if (workers.length > 0) render(list, empty(t("workers.none"), t("workers.none.filtered")));
    else render(list, empty(t("workers.none"), t("workers.none.next"), "pyoco-worker --tags default --worker-id w1"));
  }

  function card(worker) {
    const slots = worker.slots ?? [];
    const busy = slots.filter((slot) => slot.run_id).length;
    return h(
      "section",
      { class: "card", dataset: { key: worker.worker_id, worker: worker.worker_id }, "aria-label": worker.worker_id },
      h("div", { class: "card-head" }, h("h2", { dir: "auto" }, worker.worker_id), badge(worker.state),
        worker.paused ? h("span", { class: "status tone-warn" }, t("workers.paused")) : null,
        worker.draining ? h("span", { class: "status tone-warn" }, t("workers.draining")) : null,
        worker.hidden ? h("span", { class: "chip" }, t("workers.hidden")) : null),
      h("div", { class: "card-body" },
        h("dl", { class: "facts" }, facts(worker), wheels(worker.wheel_sync)),
        h("h3", {}, t("workers.slots", { busy, count: slots.length })),
        h("ul", { class: "slots" }, slots.map(slot))),
      actions(worker),
    );
  }

  function facts(worker) {
    const seen = worker.last_seen_at;
    return [
      h("dt", {}, t("workers.tags")), h("dd", { class: "chips" }, (worker.tags ?? []).map((tag) => h("span", { class: "chip" }, tag))),
      h("dt", {}, t("workers.heartbeat")), h("dd", {}, h("span", { title: seen ? new Date(seen * 1000).toISOString() : "" }, ago(seen))),
      (worker.paused || worker.draining) && worker.ordered_at ? [h("dt", {}, t("workers.ordered")), h("dd", {}, ordered(worker))] : null,
      worker.last_run_id ? [h("dt", {}, t("workers.last")), h("dd", {}, runLink(worker.last_run_id), " ", worker.last_run_status ? badge(worker.last_run_status) : null)] : null,
      worker.stop_reason ? [h("dt", {}, t("workers.stopped")), h("dd", {}, when(worker.stopped_at), ` ${worker.stop_reason}`)] : null,
    ];
  }

  function slot({ index, run_id: runId, busy_since: since, resting }) {
    const state = runId ? [runLink(runId), h("span", { class: "muted" }, duration(since ? Date.now() / 1000 - since : null))] : h("span", { class: "muted" }, t("workers.free"));
    return h("li", { class: runId ? "slot busy" : "slot" }, h("span", { class: "muted" }, `#${index}`), state,
      resting ? h("span", { class: "status tone-warn", title: resting }, t("workers.resting")) : null);
  }

  const runLink = (runId) => h("a", { class: "mono", href: href(["runs", runId]), title: runId }, runId.slice(0, RUN_SHOWN));

  function wheels(sync) {
    if (!sync?.enabled) return null;
    const installed = sync.installed_wheels ?? [];
    return [
      h("dt", {}, t("nav.wheels")),
      h("dd", {},
        installed.length === 0 ? h("span", { class: "muted" }, t("workers.no_wheels"))
          : h("div", { class: "chips" }, installed.map((wheel) => h("span", { class: "chip", title: wheel.wheel_name }, `${wheel.package_name ?? wheel.wheel_name} ${wheel.package_version ?? ""}`))),
        sync.last_error ? h("div", { class: "error-text" }, sync.last_error) : null,
        (sync.skipped_incompatible ?? []).map((wheel) => h("div", { class: "muted" }, `${wheel.wheel_name}: ${wheel.reason ?? ""}`))),
    ];
  }

  function actions(worker) {
    const base = apiPath`/workers/${worker.worker_id}`;
    const there = worker.state === "RUNNING" || worker.state === "IDLE";
    const button = (key, run, disabled = false) => h("button", { type: "button", class: "small", onclick: pressed(run), disabled }, t(key));
    const tellWorker = async (method, where, body) => {
      try {
        await send(method, where, body);
      } catch (error) {
        tellError(error);
      }
      look();
    };
    const order = (what, body) => tellWorker("POST", `${base}/${what}`, body);
    const ask = async (what, text) => {
      const reason = h("input", { type: "text", id: "order-reason", maxlength: 500 });
      const agreed = await confirm({
        title: t(`workers.${what}.title`, { worker: worker.worker_id }),
        text: [text, h("label", { class: "field", for: "order-reason" }, t("workers.reason"), reason)],
        action: t(`workers.${what}`), danger: what === "drain",
      });
      if (agreed) await order(what, reason.value.trim() ? { reason: reason.value.trim() } : undefined);
    };
    const busy = (worker.slots ?? []).filter((slot) => slot.run_id).length;
    return h("div", { class: "card-foot" },
      worker.paused ? button("workers.resume", () => order("resume"), !there) : button("workers.pause", () => ask("pause", [h("p", {}, t("workers.pause.sure")), busy ? h("p", {}, t("workers.pause.busy", { count: busy })) : null]), !there),
      button("workers.drain", () => ask("drain", drainText(worker)), !there || worker.draining),
      button(worker.hidden ? "workers.show" : "workers.hide", () => tellWorker("PATCH", base, { hidden: !worker.hidden })));
  }
}

// Who paused or drained a worker, when and why.
function ordered({ ordered_at: at, ordered_by: who, order_reason: reason }) {
  return [when(at), who ? ` ${t("workers.ordered.by", { who })}` : null, reason ? h("div", { dir: "auto" }, reason) : null];
}

// What a drain does to this worker as it is now. Workers before 0.6 do not say how long they wait.
function drainText({ slots = [], drain_timeout_sec: within }) {
  const count = slots.filter((slot) => slot.run_id).length;
  const key = count === 0 ? "idle" : within === undefined || within === null ? "busy" : within === 0 ? "at_once" : "within";
  return [h("p", {}, t(`workers.drain.${key}`, { count, duration: duration(within) })), h("p", {}, t("workers.drain.sure"))];
}
