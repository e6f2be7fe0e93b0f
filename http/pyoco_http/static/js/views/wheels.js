// The wheel registry: what is there, who has it, upload, history.

import { get, path as apiPath, send, upload } from "../api.js";
import { h, replace } from "../dom.js";
import { t, word } from "../i18n.js";
import { confirm, empty, tell, tellError } from "../parts/feedback.js";
import { every } from "../parts/every.js";
import { bytes, when } from "../time.js";

const LOOK_MS = 5000;

export function wheelsView(main, { signal, setLive }) {
  const list = h("div", { class: "table-wrap" });
  const past = h("div", { class: "table-wrap" });
  const tags = h("input", { type: "text", id: "wheel-tags" });
  const file = h("input", { type: "file", accept: ".whl", multiple: true, class: "visually-hidden", id: "wheel-file", onchange: () => { take(file.files); file.value = ""; } });
  const jobs = h("div", {});
  const drop = h(
    "div",
    {
      class: "drop",
      ondragover: (event) => { event.preventDefault(); drop.classList.add("over"); },
      ondragleave: () => drop.classList.remove("over"),
      ondrop: (event) => { event.preventDefault(); drop.classList.remove("over"); take(event.dataTransfer.files); },
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
      replace(list, wheels.length ? registry(wheels, workers) : empty(t("wheels.none"), t("wheels.none.next"), "pyoco-client wheel-upload --wheel-file dist/my_tasks-0.1.0-py3-none-any.whl"));
      replace(past, events.length ? log(events) : h("p", { class: "card-body muted" }, t("wheels.history.none")));
    } catch (error) {
      if (signal.aborted) return;
      setLive("lost");
      if (error.status) replace(list, h("div", { class: "problem" }, error.message));
    }
  });

  function registry(wheels, workers) {
    const having = (name) => workers.filter((worker) => (worker.wheel_sync?.installed_wheels ?? []).some((each) => each.wheel_name === name));
    return h("table", { class: "table" }, headers(["wheels.name", "wheels.size", "workers.tags", "wheels.uploaded", "wheels.on", ""]),
      h("tbody", {}, wheels.map((wheel) => h("tr", { dataset: { key: wheel.name } },
        h("td", { class: "mono", title: wheel.sha256_hex ?? "" }, wheel.name),
        h("td", { class: "nowrap" }, bytes(wheel.size_bytes)),
        h("td", {}, h("span", { class: "chips" }, (wheel.tags ?? []).length ? wheel.tags.map((tag) => h("span", { class: "chip" }, tag)) : h("span", { class: "muted" }, t("wheels.everyone")))),
        h("td", {}, when(typeof wheel.mtime === "string" ? Date.parse(wheel.mtime) / 1000 : wheel.mtime)),
        h("td", {}, having(wheel.name).map((worker) => worker.worker_id).join(", ") || h("span", { class: "muted" }, "–")),
        h("td", { class: "right" }, h("button", { type: "button", class: "danger small", onclick: () => remove(wheel.name) }, t("wheels.delete")))))));
  }

  function log(events) {
    return h("table", { class: "table" }, headers(["history.when", "history.what", "wheels.name", "wheels.by", "wheels.from"]),
      h("tbody", {}, events.map((event) => h("tr", {},
        h("td", {}, when(typeof event.occurred_at === "string" ? Date.parse(event.occurred_at) / 1000 : event.occurred_at)),
        h("td", {}, word("wheels.action", event.action)),
        h("td", { class: "mono" }, event.wheel_name),
        h("td", {}, [event.actor?.tenant_id, event.actor?.api_key_id].filter(Boolean).join(" / ") || "–"),
        h("td", {}, event.source?.remote_addr ?? "")))));
  }

  const headers = (keys) => h("thead", {}, h("tr", {}, keys.map((key) => h("th", { scope: "col" }, key ? t(key) : h("span", { class: "visually-hidden" }, t("do.actions"))))));

  async function take(files) {
    for (const each of files) await send1(each);
    look();
  }

  async function send1(each) {
    const bar = h("span");
    const row = h("div", {}, each.name, h("div", { class: "bar", role: "progressbar", "aria-label": each.name }, bar));
    jobs.append(row);
    const form = new FormData();
    form.append("wheel", each, each.name);
    form.append("tags", tags.value.trim());
    form.append("replace", "true");
    try {
      await upload("/wheels", form, (done) => { bar.style.width = `${100 * done}%`; });
      tell(t("wheels.done", { name: each.name }));
    } catch (error) {
      tell(`${each.name}: ${error.message}`, { bad: true });
    } finally {
      row.remove();
    }
  }

  async function remove(name) {
    const agreed = await confirm({ title: t("wheels.delete.title", { name }), text: t("wheels.delete.sure"), action: t("wheels.delete"), danger: true });
    if (!agreed) return;
    try {
      await send("DELETE", apiPath`/wheels/${name}`);
    } catch (error) {
      tellError(error);
    }
    look();
  }
}
