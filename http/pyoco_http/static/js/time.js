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

function utc(date) {
  return date.toISOString().replace("T", " ").replace("Z", " UTC");
}

/** Seconds as "1.2 s", "3 m 04 s", "2 h 05 m". */
export function duration(seconds) {
  if (seconds === null || seconds === undefined || !Number.isFinite(seconds)) return "–";
  const value = Math.max(0, seconds);
  if (value < 1) return `${Math.round(value * 1000)} ms`;
  if (value < 60) return `${value.toFixed(1)} s`;
  if (value < 3600) return `${Math.floor(value / 60)} m ${pad(value % 60)} s`;
  return `${Math.floor(value / 3600)} h ${pad((value % 3600) / 60)} m`;
}

const pad = (value) => String(Math.floor(value)).padStart(2, "0");

/** How long ago, "3 s ago". */
export function ago(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  return t("time.ago", { duration: coarse(Date.now() / 1000 - seconds) });
}

function coarse(seconds) {
  const value = Math.max(0, seconds);
  if (value < 60) return `${Math.round(value)} s`;
  if (value < 3600) return `${Math.round(value / 60)} m`;
  if (value < 86400) return `${Math.round(value / 3600)} h`;
  return `${Math.round(value / 86400)} d`;
}

/** A number of bytes, "3.4 MiB". */
export function bytes(count) {
  if (count === null || count === undefined) return "–";
  const units = ["B", "KiB", "MiB", "GiB"];
  let value = count;
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${unit === 0 ? value : value.toFixed(1)} ${units[unit]}`;
}
