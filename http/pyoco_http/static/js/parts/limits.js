// What a run is given besides its params: when it may start, and how long and how much it may take.

import { h } from "../dom.js";
import { t } from "../i18n.js";
import { unixOf } from "./range.js";

/** Those that are numbers, by their names in a submission and in a run. */
export const LIMITS = ["queue_ttl_sec", "expected_start_within_sec", "expected_end_within_sec", "timeout_sec", "max_attempts", "retry_backoff_sec", "memory_mb", "cpu_sec"];

/** {element, values(), typed()}: the fields of a submission that were filled. `before`, `changed`: as those of params. */
export function limitFields({ before = {}, changed = () => {} }) {
  const input = (name, props) => h("input", { ...props, id: `limit-${name}`, value: before[name] ?? "", oninput: changed });
  const inputs = new Map([["start_at", input("start_at", { type: "datetime-local", step: 1 })],
    ...LIMITS.map((name) => [name, input(name, { type: "number", min: 0, step: "any" })])]);
  const typed = () => Object.fromEntries([...inputs].filter(([, { value }]) => value !== "").map(([name, { value }]) => [name, value]));
  return {
    element: h("details", { open: Object.keys(before).length > 0 }, h("summary", {}, t("limit.all")),
      h("div", { class: "limits" }, [...inputs].map(([name, each]) => h("label", { class: "field", for: `limit-${name}` }, t(`limit.${name}`), each)))),
    values: () => Object.fromEntries(Object.entries(typed()).map(([name, value]) => [name, name === "start_at" ? unixOf(value) : Number(value)])),
    typed,
  };
}
