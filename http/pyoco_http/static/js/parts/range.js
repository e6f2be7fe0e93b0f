// From when to when: the last hour, day, week or month, or two times. Both live in the query of the page.

import { h } from "../dom.js";
import { t } from "../i18n.js";

export const SPANS = { "1h": 3600, "24h": 86_400, "7d": 604_800, "30d": 2_592_000 };
const CUSTOM = "custom";
// Clocks of gateways and workers differ: a run may seem to have changed this much before it was submitted.
const CLOCKS_SECONDS = 3600;

/** The times {from, to} in unix seconds of a page's query; null for an open end. */
export function timesOf({ range, from, to }) {
  if (range in SPANS) return { from: Math.floor(Date.now() / 1000) - SPANS[range], to: null };
  const time = (text) => (/^\d{1,11}(?:\.\d+)?$/.test(text ?? "") ? Number(text) : null);
  return { from: time(from), to: time(to) };
}

/** The same as the query of a list. */
export function listTimes(filters) {
  const { from, to } = timesOf(filters);
  return {
    // What changed before it was submitted need not be looked at, which spares the gateway most of the list.
    ...(from === null ? {} : { submitted_after: from, updated_after: Math.max(0, from - CLOCKS_SECONDS) }),
    ...(to === null ? {} : { submitted_before: to }),
  };
}

/** A field that chooses; `change({range, from, to})` is told. Returns {element, show(filters)}. */
export function rangeField(change) {
  const choice = h("select", { id: "filter-range", onchange: choose },
    h("option", { value: "" }, t("range.all")),
    Object.keys(SPANS).map((name) => h("option", { value: name }, t(`range.${name}`))),
    h("option", { value: CUSTOM }, t("range.custom")));
  const input = (name) => h("input", { type: "datetime-local", id: `filter-${name}`, step: 1, onchange: entered });
  const [from, to] = [input("from"), input("to")];
  const times = h("span", { class: "filters", hidden: true },
    h("label", { class: "field", for: "filter-from" }, t("range.from"), from), h("label", { class: "field", for: "filter-to" }, t("range.to"), to));

  function choose() {
    times.hidden = choice.value !== CUSTOM;
    if (choice.value !== CUSTOM) change({ range: choice.value, from: "", to: "" });
  }

  function entered() {
    const seconds = (text) => (text === "" ? "" : String(unixOf(text)));
    change({ range: "", from: seconds(from.value), to: seconds(to.value) });
  }

  function show(filters) {
    const custom = Boolean(filters.from || filters.to);
    choice.value = custom ? CUSTOM : filters.range in SPANS ? filters.range : "";
    times.hidden = !custom;
    const found = timesOf(custom ? filters : {});
    from.value = local(found.from);
    to.value = local(found.to);
  }

  return { element: [h("label", { class: "field", for: "filter-range" }, t("range.label"), choice), times], show };
}

/** The unix seconds of what stands in a field of a local time. */
export const unixOf = (text) => new Date(text).getTime() / 1000;

/** Unix seconds as such a field wants them: local, without a zone. */
export function local(seconds) {
  if (seconds === null) return "";
  const date = new Date(seconds * 1000);
  return new Date(date.getTime() - date.getTimezoneOffset() * 60_000).toISOString().slice(0, 19);
}
