// Workers: what each is, what its slots run, and what an operator may tell it.

import { get, path as apiPath, send } from "../api.js";
import { h, replace } from "../dom.js";
import { t } from "../i18n.js";
import { confirm, empty, tellError } from "../parts/feedback.js";
import { badge } from "../parts/status.js";
import { every } from "../parts/every.js";
import { href, setQuery } from "../router.js";
import { ago, duration, when } from "../time.js";

const LOOK_MS = 2000;

export function workersView(main, { query, signal, setLive }) {
  const options = { all: query.get("all") === "1" };
  const list = h("div", { class: "cards" });
  const all = h("input", { type: "checkbox", checked: options.all, onchange: () => { options.all = all.checked; setQuery(options.all ? { all: 1 } : {}); look(); } });
  replace(main, h("div", { class: "view-head" }, h("h1", {}, t("nav.workers")), h("span", { class: "spacer" }), h("label", {}, all, " ", t("workers.all"))), list);

  const look = every(LOOK_MS, signal, async () => {
    try {
      const workers = await get("/workers", { scope: options.all ? "all" : "active", include_hidden: options.all, limit: 500 }, signal);
      setLive("live");
      replace(list, workers.length ? workers.map(card) : empty(t("workers.none"), t("workers.none.next"), "pyoco-worker --tags default --worker-id w1"));
    } catch (error) {
      if (signal.aborted) return;
      setLive("lost");
      if (error.status) replace(list, h("div", { class: "problem" }, error.message));
    }
  });

  function card(worker) {
    const slots = worker.slots ?? [];
    const busy = slots.filter((slot) => slot.run_id).length;
    return h(
      "section",
      { class: "card", dataset: { worker: worker.worker_id } },
      h("div", { class: "card-head" }, h("h2", {}, worker.worker_id), badge(worker.state),
        worker.paused ? h("span", { class: "status tone-warn" }, t("workers.paused")) : null,
        worker.draining ? h("span", { class: "status tone-warn" }, t("workers.draining")) : null,
        worker.hidden ? h("span", { class: "chip" }, t("workers.hidden")) : null),
      h("div", { class: "card-body" },
        h("dl", { class: "facts" },
          h("dt", {}, t("workers.tags")), h("dd", { class: "chips" }, (worker.tags ?? []).map((tag) => h("span", { class: "chip" }, tag))),
          h("dt", {}, t("workers.heartbeat")), h("dd", { title: worker.last_seen_at ? new Date(worker.last_seen_at * 1000).toISOString() : "" }, ago(worker.last_seen_at)),
          worker.last_run_id ? [h("dt", {}, t("workers.last")), h("dd", {}, h("a", { class: "mono", href: href(["runs", worker.last_run_id]) }, worker.last_run_id.slice(0, 8)), " ", worker.last_run_status ? badge(worker.last_run_status) : null)] : null,
          worker.stop_reason ? [h("dt", {}, t("workers.stopped")), h("dd", {}, when(worker.stopped_at), ` ${worker.stop_reason}`)] : null,
          wheels(worker.wheel_sync)),
        h("h3", {}, t("workers.slots", { busy, count: slots.length })),
        h("ul", { class: "slots" }, slots.map((slot) => h("li", { class: "slot" }, h("span", { class: "muted" }, `#${slot.index}`), slot.run_id
          ? [h("a", { class: "mono", href: href(["runs", slot.run_id]) }, slot.run_id.slice(0, 8)), h("span", { class: "muted" }, duration(Date.now() / 1000 - slot.busy_since))]
          : h("span", { class: "muted" }, t("workers.free")))))),
      actions(worker),
    );
  }

  function wheels(sync) {
    if (!sync?.enabled) return null;
    const skipped = sync.skipped_incompatible ?? [];
    return [
      h("dt", {}, t("nav.wheels")),
      h("dd", {},
        h("div", { class: "chips" }, (sync.installed_wheels ?? []).map((wheel) => h("span", { class: "chip", title: wheel.wheel_name }, `${wheel.package_name ?? wheel.wheel_name} ${wheel.package_version ?? ""}`))),
        sync.last_error ? h("div", { class: "error-text" }, sync.last_error) : null,
        skipped.map((wheel) => h("div", { class: "muted" }, `${wheel.wheel_name}: ${wheel.reason ?? ""}`))),
    ];
  }

  function actions(worker) {
    const base = apiPath`/workers/${worker.worker_id}`;
    const there = worker.state === "RUNNING" || worker.state === "IDLE";
    const button = (key, run, props = {}) => h("button", { type: "button", class: "small", onclick: run, ...props }, t(key));
    const tellWorker = (what) => async () => {
      try {
        await send("POST", `${base}/${what}`);
      } catch (error) {
        tellError(error);
      }
      look();
    };
    return h("div", { class: "card-head" },
      worker.paused ? button("workers.resume", tellWorker("resume"), { disabled: !there }) : button("workers.pause", tellWorker("pause"), { disabled: !there }),
      button("workers.drain", async () => {
        const agreed = await confirm({ title: t("workers.drain.title", { worker: worker.worker_id }), text: t("workers.drain.sure"), action: t("workers.drain"), danger: true });
        if (agreed) await tellWorker("drain")();
      }, { disabled: !there }),
      button(worker.hidden ? "workers.show" : "workers.hide", async () => {
        try {
          await send("PATCH", base, { hidden: !worker.hidden });
        } catch (error) {
          tellError(error);
        }
        look();
      }));
  }
}
