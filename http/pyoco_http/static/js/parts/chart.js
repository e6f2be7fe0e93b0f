// Charts of the last minutes: bars that stack counts, a line for one value.

import { h, s } from "../dom.js";
import { t } from "../i18n.js";
import { when } from "../time.js";

const WIDTH = 600;
const HEIGHT = 110;

/** Bars, one a minute, of the parts [{name, tone, of: (minute) => count}] on top of each other. */
export function bars(minutes, { label, parts }) {
  const sums = minutes.map((minute) => parts.reduce((sum, part) => sum + part.of(minute), 0));
  const most = Math.max(...sums, 1);
  const step = WIDTH / Math.max(minutes.length, 1);
  const shapes = minutes.flatMap((minute, index) => {
    let top = HEIGHT;
    return parts.map((part) => {
      const height = (HEIGHT * part.of(minute)) / most;
      top -= height;
      return height === 0 ? null : s("rect", { class: `bar-${part.tone}`, x: index * step + 0.5, y: top, width: Math.max(step - 1, 1), height });
    });
  });
  return [
    frame(minutes, { label, most: String(most), shapes }),
    h("div", { class: "legend" }, parts.map((part) => h("span", {}, h("i", { class: `key-${part.tone}` }), `${part.name} ${minutes.reduce((sum, minute) => sum + part.of(minute), 0)}`))),
  ];
}

/** A line of `of(minute)`, null where there is none; `unit` writes it. */
export function line(minutes, { label, of, unit }) {
  const values = minutes.map(of);
  const most = Math.max(...values.map((value) => value ?? 0), 0);
  const step = WIDTH / Math.max(minutes.length - 1, 1);
  const points = values.flatMap((value, index) => (value === null ? [] : [{ x: index * step, y: HEIGHT - (most === 0 ? 0 : ((HEIGHT - 6) * value) / most) }]));
  const shapes = [
    s("polyline", { class: "line", points: points.map(({ x, y }) => `${x.toFixed(1)},${y.toFixed(1)}`).join(" "), "vector-effect": "non-scaling-stroke" }),
    points.map(({ x, y }) => s("circle", { class: "point", cx: x, cy: y, r: 2.5 })),
  ];
  return frame(minutes, { label, most: points.length === 0 ? "–" : unit(most), shapes });
}

function frame(minutes, { label, most, shapes }) {
  return h("figure", { class: "chart" },
    h("div", { class: "chart-most muted", title: t("chart.most") }, most),
    s("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": `${label}: ${t("chart.most")} ${most}` }, shapes),
    h("figcaption", { class: "muted" }, when(minutes[0]?.start), h("span", {}, t("chart.now"))));
}
