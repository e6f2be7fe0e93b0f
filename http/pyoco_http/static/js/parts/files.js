// The files that a run saved.

import { h } from "../dom.js";
import { t } from "../i18n.js";
import { bytes } from "../time.js";
import { download } from "./download.js";

/** A table of a snapshot's artifacts; `base` is the path of its run. */
export function files(snapshot, base) {
  const kept = snapshot.artifacts ?? [];
  const refused = snapshot.artifacts_refused ?? [];
  if (kept.length + refused.length === 0) return h("p", { class: "muted" }, t("run.files.none"));
  return [
    kept.length === 0 ? null : h("table", { class: "table" },
      h("caption", { class: "visually-hidden" }, t("run.files")),
      h("thead", {}, h("tr", {}, ["run.files.name", "run.logs.task", "wheels.size", "run.files.sha"].map((key) => h("th", { scope: "col" }, t(key))), h("th", { scope: "col" }, h("span", { class: "visually-hidden" }, t("do.actions"))))),
      h("tbody", {}, kept.map((item) => h("tr", {},
        h("td", {}, item.name),
        h("td", {}, item.task ?? ""),
        h("td", { class: "nowrap" }, bytes(item.size_bytes)),
        h("td", {}, h("code", { class: "muted", title: item.sha256_hex }, item.sha256_hex.slice(0, 12))),
        h("td", { class: "right" }, h("button", { type: "button", class: "small", "aria-label": `${t("do.download")} ${item.name}`, onclick: () => fetchFile(item.name, base) }, t("do.download"))))))),
    refused.map((item) => h("p", { class: "error-text" }, `${item.name}: ${item.reason}`)),
  ];
}

function fetchFile(name, base) {
  const path = name.split("/").map(encodeURIComponent).join("/");
  return download(`${base}/artifacts/${path}`, name.split("/").at(-1));
}
