// What is wrong with a flow.yaml, or most likely is: each with its line, the place in it, and the name that was meant.

import { h } from "../dom.js";
import { t } from "../i18n.js";

/** `findings` of POST /flows/check; `jump(line, column)` goes to the place of one. */
export function findingList(findings, jump) {
  return findings.map(({ severity, reason, nearest, line, column, source }) => h("div", { class: severity === "error" ? "problem" : "problem warning" },
    line ? h("button", { type: "button", class: "quiet small", onclick: () => jump(line, column ?? 1) }, t("submit.line", { line })) : null, " ",
    reason, nearest && !reason.includes("did you mean") ? h("div", {}, t("submit.nearest", { name: nearest })) : null,
    source ? h("pre", { class: "source" }, `${source}\n${" ".repeat(Math.max(0, (column ?? 1) - 1))}^`) : null));
}
