// A small chart of one value over time.

import { s } from "../dom.js";

const WIDTH = 600;
const HEIGHT = 90;
const TOP = 14;

/** Draw values, oldest first; `unit` writes the largest of them. */
export function spark(values, { label, unit = String }) {
  const most = Math.max(...values, 0);
  const step = WIDTH / Math.max(values.length - 1, 1);
  const y = (value) => HEIGHT - 2 - (most === 0 ? 0 : ((HEIGHT - TOP - 4) * value) / most);
  const points = values.map((value, index) => `${(index * step).toFixed(1)},${y(value).toFixed(1)}`);
  return s(
    "svg",
    { class: "spark", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": `${label}: ${unit(values.at(-1) ?? 0)}` },
    s("polygon", { class: "area", points: `0,${HEIGHT} ${points.join(" ")} ${WIDTH},${HEIGHT}` }),
    s("polyline", { class: "line", points: points.join(" "), "vector-effect": "non-scaling-stroke" }),
    s("title", {}, `${label}: ${unit(most)}`),
  );
}
