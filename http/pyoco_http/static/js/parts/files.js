// The files that a run saved: a look inside, and downloads.

import { h, replace } from "../dom.js";
import { t } from "../i18n.js";
import { render } from "../render.js";
import { size } from "../time.js";
import { download } from "./download.js";
import { preview } from "./preview.js";
import { table } from "./table.js";

/** Returns {element, draw(snapshot)}; `base` is the path of the run. */
export function filePanel(base, signal) {
  const list = h("div", { class: "table-wrap" });
  const look = h("section", { hidden: true, "aria-live": "polite" });
  const element = h("div", { class: "card-body" }, list, look);
  const pathOf = (name) => `${base}/artifacts/${name.split("/").map(encodeURIComponent).join("/")}`;
  let shown = null; // the name of the file that is looked at

  function draw(snapshot) {
    const kept = snapshot.artifacts ?? [];
    const refused = snapshot.artifacts_refused ?? [];
    render(
      list,
      kept.length + refused.length === 0 ? h("p", { class: "muted" }, t("run.files.none")) : null,
      kept.length === 0 ? null : table({
        caption: t("run.files"),
        columns: ["run.files.name", "run.logs.task", "wheels.size", "run.files.sha", null],
        rows: kept.map((item) => h("tr", { dataset: { key: item.name } },
          h("td", { class: "wide", dir: "auto" }, item.name),
          h("td", {}, item.task ?? ""),
          h("td", { class: "nowrap" }, size(item.size_bytes)),
          h("td", {}, h("code", { class: "muted", title: item.sha256_hex }, item.sha256_hex.slice(0, 12))),
          h("td", { class: "right nowrap" },
            h("button", { type: "button", class: "small", "aria-label": `${t("preview.look")} ${item.name}`, "aria-pressed": String(shown === item.name), onclick: () => toggle(item) }, t("preview.look")), " ",
            h("button", { type: "button", class: "small", "aria-label": `${t("do.download")} ${item.name}`, onclick: () => download(pathOf(item.name), item.name.split("/").at(-1)) }, t("do.download"))))),
      }),
      refused.map((item) => h("p", { class: "error-text" }, `${item.name}: ${item.reason}`)),
    );
  }

  async function toggle(item) {
    const closing = shown === item.name;
    shown = closing ? null : item.name;
    for (const button of list.querySelectorAll("[aria-pressed]")) button.setAttribute("aria-pressed", String(!closing && button.closest("tr").dataset.key === item.name));
    look.hidden = closing;
    if (closing) return;
    replace(look, h("h3", { dir: "auto" }, item.name), h("p", { class: "muted" }, "…"));
    let found;
    try {
      found = await preview(pathOf(item.name), item, signal);
    } catch (error) {
      if (signal.aborted) return;
      found = h("p", { class: "error-text" }, error.message);
    }
    if (shown === item.name) replace(look, h("h3", { dir: "auto" }, item.name), found);
  }

  return { element, draw };
}
