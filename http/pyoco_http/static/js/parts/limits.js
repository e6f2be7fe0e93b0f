// What a run is given besides its params: when it may start, and how long and how much it may take.

import { h } from "../dom.js";
import { t } from "../i18n.js";
import { unixOf } from "./range.js";

/** Those that are numbers, by their names in a submission and in a run. */
export const LIMITS = ["queue_ttl_sec", "expected_start_within_sec", "expected_end_within_sec", "timeout_sec", "max_attempts", "retry_backoff_sec", "memory_mb", "cpu_sec"];

/** {element, values()}: the fields of a submission that were filled. */
export function limitFields() {
  const start = h("input", { type: "datetime-local", id: "limit-start_at", step: 1 });
  const inputs = new Map(LIMITS.map((name) => [name, h("input", { type: "number", id: `limit-${name}`, min: 0, step: "any" })]));
  const label = (name, input) => h("label", { class: "field", for: `limit-${name}` }, t(`limit.${name}`), input);
  return {
    element: h("details", {}, h("summary", {}, t("limit.all")),
      h("div", { class: "limits" }, label("start_at", start), [...inputs].map(([name, input]) => label(name, input)))),
    values: () => Object.fromEntries([
      ...(start.value === "" ? [] : [["start_at", unixOf(start.value)]]),
      ...[...inputs].filter(([, input]) => input.value !== "").map(([name, input]) => [name, Number(input.value)]),
    ]),
  };
}
