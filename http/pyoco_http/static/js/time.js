// Times are local on the screen and UTC on hover; durations in words short enough for a table.

import { h } from "./dom.js";
import { lang, t } from "./i18n.js";

/** A time of unix seconds as an element; "–" for none, or for what is no time. */
export function when(seconds) {
  const date = new Date((seconds ?? NaN) * 1000);
  if (Number.isNaN(date.getTime())) return h("span", { class: "muted" }, "–");
  const today = date.toDateString() === new Date().toDateString();
  const options = { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" };
  if (!today) Object.assign(options, { year: "numeric", month: "2-digit", day: "2-digit" });
  return h(
    "time",
    { datetime: date.toISOString(), title: utc(date), class: "nowrap" },
    new Intl.DateTimeFormat(lang(), options).format(date),
  );
}

/** A time of unix seconds as "12:34:56.789" of its day, for lines that are many. */
export function clock(seconds) {
  const date = new Date((seconds ?? NaN) * 1000);
  if (Number.isNaN(date.getTime())) return h("time", { class: "log-at" });
  const part = (value, digits = 2) => String(value).padStart(digits, "0");
  const text = `${part(date.getHours())}:${part(date.getMinutes())}:${part(date.getSeconds())}.${part(date.getMilliseconds(), 3)}`;
  return h("time", { class: "log-at", datetime: date.toISOString(), title: utc(date) }, text);
}

function utc(date) {
  return date.toISOString().replace("T", " ").replace("Z", " UTC");
}

/** A time of unix seconds as a text that is fit for an axis over so many seconds. */
export function moment(seconds, span) {
  const options = {};
  if (span >= 86_000) Object.assign(options, { month: "numeric", day: "numeric" });
  if (span < 15 * 86_400) Object.assign(options, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
  if (span < 600) options.second = "2-digit";
  return new Intl.DateTimeFormat(lang(), options).format(new Date(seconds * 1000));
}

/** Seconds as "1.2 s", "3 m 04 s", "2 h 05 m". */
export function duration(seconds) {
  if (seconds === null || seconds === undefined || !Number.isFinite(seconds)) return "–";
  const value = Math.max(0, seconds);
  if (value < 0.9995) return `${Math.round(value * 1000)} ms`;
  if (value < 59.95) return `${value.toFixed(1)} s`;
  if (value < 3600) return `${Math.floor(Math.max(value, 60) / 60)} m ${pad(Math.max(value, 60) % 60)} s`;
  return `${Math.floor(value / 3600)} h ${pad((value % 3600) / 60)} m`;
}

/** The same as an element, exact on hover. */
export function took(seconds) {
  if (seconds === null || seconds === undefined || !Number.isFinite(seconds)) return "–";
  return h("span", { class: "nowrap", title: `${Math.max(0, seconds).toFixed(3)} s` }, duration(seconds));
}

const pad = (value) => String(Math.floor(value)).padStart(2, "0");

/** How long ago, "3 s ago". */
export function ago(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  return t("time.ago", { duration: coarse(Date.now() / 1000 - seconds) });
}

function coarse(seconds) {
  const value = Math.max(0, seconds);
  if (value < 60) return `${Math.floor(value)} s`;
  if (value < 3600) return `${Math.floor(value / 60)} m`;
  if (value < 86400) return `${Math.floor(value / 3600)} h`;
  return `${Math.floor(value / 86400)} d`;
}

/** A number of bytes, "3.4 MiB". */
export function bytes(count) {
  if (count === null || count === undefined) return "–";
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let value = count;
  let unit = 0;
  // What would be rounded to 1024.0 is one of the next unit.
  while (value >= (unit === 0 ? 1024 : 1023.95) && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${unit === 0 ? value : value.toFixed(1)} ${units[unit]}`;
}

/** The same as an element, exact on hover. */
export function size(count) {
  return h("span", { class: "nowrap", title: count === null || count === undefined ? "" : `${count} B` }, bytes(count));
}
