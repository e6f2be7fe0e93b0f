// The wheel registry: what is there, who has it, upload, history.

import { get, path as apiPath, send, upload } from "../api.js";
import { h, replace } from "../dom.js";
import { t, word } from "../i18n.js";
import { download } from "../parts/download.js";
import { every } from "../parts/every.js";
import { confirm, empty, showFailure, tell, tellError } from "../parts/feedback.js";
import { pressed } from "../parts/pressed.js";
import { table } from "../parts/table.js";
import { render } from "../render.js";
import { bytes, size, when } from "../time.js";
import { typed } from "../typed.js";

const LOOK_MS = 5000;

export function wheelsView(main, { signal, setLive }) {
  const list = h("div", { class: "table-wrap" });
  const past = h("div", { class: "table-wrap" });
  const tags = typed(h("input", { type: "text", id: "wheel-tags" }));
  const file = h("input", { type: "file", accept: ".whl", multiple: true, class: "visually-hidden", id: "wheel-file", onchange: () => { take([...file.files]); file.value = ""; } });
  const jobs = h("div", {});
  const drop = h(
    "div",
    {
      class: "drop",
      ondragover: (event) => { event.preventDefault(); drop.classList.add("over"); },
      ondragleave: () => drop.classList.remove("over"),
      ondrop: (event) => { event.preventDefault(); drop.classList.remove("over"); take([...event.dataTransfer.files]); },
    },
    h("p", {}, t("wheels.drop")),
    h("button", { type: "button", onclick: () => file.click() }, t("wheels.choose")), h("label", { class: "visually-hidden", for: "wheel-file" }, t("wheels.choose")), file,
  );
  replace(
    main,
    h("div", { class: "view-head" }, h("h1", {}, t("nav.wheels"))),
    h("section", { class: "card" }, h("div", { class: "card-body" }, drop, h("label", { class: "field", for: "wheel-tags" }, t("wheels.tags"), tags), jobs)),
    h("section", { class: "card" }, h("div", { class: "card-head" }, h("h2", {}, t("wheels.registry"))), list),
    h("section", { class: "card" }, h("div", { class: "card-head" }, h("h2", {}, t("wheels.history"))), past),
  );

  const look = every(LOOK_MS, signal, async () => {
    try {
      const [wheels, workers, events] = await Promise.all([
        get("/wheels", {}, signal),
        get("/workers", { limit: 500 }, signal),
        get("/wheels/history", { limit: 50 }, signal),
      ]);
      setLive("live");
      render(list, wheels.length ? registry(wheels, workers) : empty(t("wheels.none"), t("wheels.none.next"), "pyoco-client wheel-upload --wheel-file dist/my_tasks-0.1.0-py3-none-any.whl"));
      render(past, events.length ? log(events) : h("p", { class: "card-body muted" }, t("wheels.history.none")));
    } catch (error) {
      if (!signal.aborted) showFailure(list, error, setLive);
    }
  });

  function registry(wheels, workers) {
    const having = (name) => workers.filter((worker) => (worker.wheel_sync?.installed_wheels ?? []).some((each) => each.wheel_name === name));
    const chips = (names) => h("span", { class: "chips" }, names.map((name) => h("span", { class: "chip" }, name)));
    return table({
      columns: ["wheels.name", "wheels.size", "workers.tags", "wheels.uploaded", "wheels.on", null],
      rows: wheels.map((wheel) => {
        const workersWith = having(wheel.name).map((worker) => worker.worker_id);
        return h("tr", { dataset: { key: wheel.name } },
          h("td", { class: "mono wide", title: `SHA-256 ${wheel.sha256_hex}` }, wheel.name),
          h("td", {}, size(wheel.size_bytes)),
          h("td", {}, wheel.tags.length ? chips(wheel.tags) : h("span", { class: "muted" }, t("wheels.everyone"))),
          h("td", {}, when(seconds(wheel.mtime))),
          h("td", {}, workersWith.length ? chips(workersWith) : h("span", { class: "muted" }, t("wheels.nobody"))),
          h("td", { class: "right nowrap" },
            h("button", { type: "button", class: "small", onclick: () => download(apiPath`/wheels/${wheel.name}`, wheel.name) }, t("do.download")), " ",
            h("button", { type: "button", class: "danger small", onclick: pressed(() => remove(wheel.name, workersWith.length)) }, t("wheels.delete"))));
      }),
    });
  }

  function log(events) {
    return table({
      columns: ["history.when", "history.what", "wheels.name", "wheels.size", "wheels.by", "wheels.from"],
      rows: events.map((event) => h("tr", { dataset: { key: event.event_id } },
        h("td", {}, when(seconds(event.occurred_at))),
        h("td", { class: "nowrap" }, word("wheels.action", event.action)),
        h("td", { class: "mono wide" }, event.wheel_name),
        h("td", {}, size(event.size_bytes)),
        h("td", {}, [event.actor?.tenant_id, event.actor?.api_key_id].filter(Boolean).join(" / ") || "–"),
        h("td", { title: event.source?.user_agent ?? "" }, event.source?.remote_addr ?? ""))),
    });
  }

  // One after the other, so that versions of one package come in the order of their files.
  async function take(files) {
    for (const each of files.sort((one, two) => one.name.localeCompare(two.name, "en", { numeric: true }))) await uploadOne(each);
    look();
  }

  async function uploadOne(each) {
    const level = h("span");
    const bar = h("div", { class: "bar", role: "progressbar", "aria-label": each.name, "aria-valuemin": 0, "aria-valuemax": 100 }, level);
    const row = h("div", {}, `${each.name} (${bytes(each.size)})`, bar);
    jobs.append(row);
    const form = new FormData();
    form.append("wheel", each, each.name);
    form.append("tags", tags.value.trim());
    form.append("shared", "false");
    try {
      await upload("/wheels", form, (done) => {
        level.style.width = `${100 * done}%`;
        bar.setAttribute("aria-valuenow", String(Math.round(100 * done)));
      });
      tell(t("wheels.done", { name: each.name }));
    } catch (error) {
      tell(`${each.name}: ${error.message}`, { bad: true });
    } finally {
      row.remove();
    }
  }

  async function remove(name, count) {
    const agreed = await confirm({ title: t("wheels.delete.title", { name }), text: count === 0 ? t("wheels.delete.nobody") : t("wheels.delete.sure", { count }), action: t("wheels.delete"), danger: true });
    if (!agreed) return;
    try {
      await send("DELETE", apiPath`/wheels/${name}`);
    } catch (error) {
      tellError(error);
    }
    look();
  }
}

// Times of the registry are texts of ISO 8601 or unix seconds.
const seconds = (time) => (typeof time === "string" ? Date.parse(time) / 1000 : time);
