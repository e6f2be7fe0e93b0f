// The flow.yaml that a run brought.

import { textOf } from "../api.js";
import { h, replace } from "../dom.js";
import { t } from "../i18n.js";
import { patiently } from "../page.js";
import { keepDraft } from "./draft.js";
import { save } from "./download.js";
import { copy } from "./feedback.js";

/** The text of a run's flow.yaml; raises an ApiError of status 404 where there is none. */
export const workflowOf = (base, signal) => textOf(`${base}/workflow`, { signal });

/** A panel with the file of the run at a path. */
export function workflowPanel(base, snapshot, signal) {
  const element = h("div", { class: "card-body" }, h("p", { class: "muted" }, "…"));
  patiently(() => workflowOf(base, signal), signal).then((text) => {
    const act = (key, run) => h("button", { type: "button", class: "small", onclick: run }, t(key));
    const edit = () => {
      const { flow_name: name, tag, params = {} } = snapshot();
      keepDraft({ text, name, tag: tag ?? "", given: params });
      location.hash = "#/submit";
    };
    const numbers = text.replace(/\n$/, "").split("\n").map((_, index) => `${index + 1}\n`).join("");
    replace(element,
      h("div", { class: "filters" }, act("do.copy", () => copy(text)),
        act("do.download", () => save(new Blob([text], { type: "application/yaml" }), "flow.yaml")), act("workflow.edit", edit)),
      h("div", { class: "listing", tabindex: 0, role: "region", "aria-label": "flow.yaml" }, h("pre", { class: "gutter", "aria-hidden": "true" }, numbers), h("pre", {}, text)));
  }, (error) => {
    if (!signal.aborted) replace(element, h("p", { class: "muted" }, error.status === 404 ? t("workflow.none") : error.message));
  });
  return element;
}
